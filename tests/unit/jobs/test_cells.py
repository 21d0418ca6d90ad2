"""What of a notebook or a script travels with a class: what it needs, in order, and none of the work."""

from __future__ import annotations

import pytest

from hansa.errors import ConfigError
from hansa.jobs.cells import has_guard, needed_source


def needed(*cells: str, wanted: str = "T") -> list[str]:
    return needed_source(cells, [wanted]).splitlines()


def test_imports_names_and_functions_of_earlier_cells_come_along_and_work_stays() -> None:
    cells = [
        "import numpy as np\nimport os.path\nimport hansa",
        "WIDTH = 4\nDEPTH = 2\ndata = [i for i in range(3)]",
        "@staticmethod\ndef scale(x):  # keeps its comment\n    return x * np.float32(WIDTH)",
        "class T:\n    def run(self, x):\n        return scale(x)",
        "run = hansa.simulate(T, 8)\nprint(run)",
    ]
    assert needed(*cells) == [
        "import numpy as np",
        "WIDTH = 4",
        "@staticmethod",
        "def scale(x):  # keeps its comment",
        "    return x * np.float32(WIDTH)",
        "class T:",
        "    def run(self, x):",
        "        return scale(x)",
    ]


def test_a_local_variable_pulls_in_no_global_of_the_same_name() -> None:
    work = "run = start()\nx = load()\nlog = 1"
    assert needed(work, "class T:\n    def f(self, x):\n        run = [log for log in x]\n        return run") == [
        "class T:",
        "    def f(self, x):",
        "        run = [log for log in x]",
        "        return run",
    ]


def test_the_last_definition_counts_with_what_changes_it() -> None:
    cells = [
        "C = {}\nC['old'] = 1",
        "C = {'lr': 1}\nN = []\nC['lr'] = 0.5",
        "C.update(w=2)\nN += [1]",
        "class T:\n    c = C\n    n = N",
    ]
    assert needed(*cells)[:-3] == ["C = {'lr': 1}", "N = []", "C['lr'] = 0.5", "C.update(w=2)", "N += [1]"]


def test_calls_into_modules_are_work_but_their_settings_are_not() -> None:
    cells = ["import hansa\nhansa.simulate(1)\nhansa.flag = True", "class T(hansa.Job): ..."]
    assert needed(*cells) == ["import hansa", "hansa.flag = True", "class T(hansa.Job): ..."]


def test_statements_that_may_bind_a_name_or_not_come_with_what_was_before() -> None:
    cells = ["X = 1\nX = 2\nif X > 1:\n    X = 3", "try:\n    import a\nexcept ImportError:\n    a = None"]
    assert needed(*cells, "class T:\n    x, m = X, a")[:3] == ["X = 2", "if X > 1:", "    X = 3"]
    assert needed(*cells, "class T:\n    m = a")[0] == "try:"


def test_future_imports_come_first_and_star_imports_always() -> None:
    assert needed("from math import *\nY = 1", "from __future__ import annotations\nclass T: ...") == [
        "from __future__ import annotations",
        "from math import *",
        "class T: ...",
    ]


def test_statements_on_one_line_are_taken_apart() -> None:
    assert needed("A = 1; B = start()", "class T: a = A") == ["A = 1", "class T: a = A"]


def test_lines_for_the_shell_and_broken_cells_are_left_out() -> None:
    assert needed("%matplotlib inline\n!ls\nA = 1", "no python at all", "class T: a = A") == [
        "A = 1",
        "class T: a = A",
    ]


def test_what_stands_under_the_guard_stays() -> None:
    text = "class T: ...\nif __name__ == '__main__':\n    T = start()"
    assert needed(text) == ["class T: ..."]
    assert has_guard(text)
    assert has_guard('if "__main__" == __name__: pass')
    assert not has_guard("if name == 'x': pass\nif __name__ == 'x': pass")


def test_a_command_of_the_notebook_cannot_travel() -> None:
    with pytest.raises(ConfigError, match=r"needs a command of the notebook, .*: F = get_ipython\(\)"):
        needed("F = get_ipython().run_line_magic('ls', '')", "class T: f = F")


def test_a_class_that_no_cell_defines() -> None:
    with pytest.raises(ConfigError, match="T is defined at the top of no cell"):
        needed("def f():\n    class T: ...")
