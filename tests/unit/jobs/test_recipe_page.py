"""The page of recipes names every recipe, argument and option, and nothing else."""

from __future__ import annotations

import inspect
import re

import pytest

from hansa.jobs import library_recipes, recipe_options, recipes
from source_code import ROOT

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
RECIPES = ("fed_avg", "fed_prox", "fed_opt", "scaffold", "fed_bn", "ditto", "cyclic")
LIBRARIES = ("xgboost_bagging", "xgboost_cyclic", "naive_bayes", "k_means")
COMMON = recipe_options.Options.__annotations__
OWN = {
    (recipe, option)
    for recipe, options in {
        "fed_prox": recipe_options.FedProxOptions,
        "fed_opt": recipe_options.FedOptOptions,
        "fed_bn": recipe_options.FedBNOptions,
        "ditto": recipe_options.DittoOptions,
        "cyclic": recipe_options.CyclicOptions,
        "cross_site_eval": recipe_options.EvaluationOptions,
    }.items()
    for option in options.__annotations__.keys() - COMMON.keys()
}


def first_cells(heading: str) -> list[list[str]]:
    section = PAGE.split(heading)[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def test_every_recipe_is_on_the_page() -> None:
    made = {
        name
        for module in (recipes, library_recipes)
        for name, value in vars(module).items()
        if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == module.__name__
    }
    assert made == {*RECIPES, *LIBRARIES, "cross_site_eval"}
    assert [row[0] for row in first_cells("# Recipes")] == [*RECIPES, *LIBRARIES, "cross_site_eval"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_papers_are_those_of_the_docstrings(recipe: str) -> None:
    [row] = [row for row in first_cells("# Recipes") if row[0] == recipe]
    [number] = re.findall(r"arXiv:[\d.]+\d", row[2])
    assert number in (getattr(recipes, recipe).__doc__ or "")


def test_every_argument_and_option_of_all_recipes_is_on_the_page() -> None:
    arguments = [name for name in inspect.signature(recipes.fed_prox).parameters if name != "options"]
    assert {row[0] for row in first_cells("## Arguments of all recipes")} == {*arguments, *COMMON}


def test_every_option_of_one_recipe_is_on_the_page() -> None:
    assert {(row[0], row[1]) for row in first_cells("## Options of single recipes")} == OWN
