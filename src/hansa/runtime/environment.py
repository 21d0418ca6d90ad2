"""What a job process finds in its environment: what is listed here, and nothing else of its agent's.

An agent's environment may hold what no job is meant to read, such as the tokens of a service. Names are listed, not
forbidden: nobody knows all the names of secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hansa.errors import ConfigError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""What tells numeric libraries, before they are loaded, how many threads they may use."""

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For glibc's allocator, unless the environment says something: training frees and takes the same megabytes at every
step, and giving them back to the system each time costs page faults worth a quarter of a step (measured with a dense
layer of 6 MB)."""

_GPUS = "CUDA_VISIBLE_DEVICES"
ALWAYS = frozenset({"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", _GPUS})
"""Who and where one is, and where the system's programs and libraries lie; besides these, all of `LC_*`."""
IN_POC = frozenset(
    {
        "PYTHONPATH",
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
"""Where all of a federation runs on its user's own machine, a job may need these to fetch its data as the user does."""


def job_environment(base: Mapping[str, str], *, poc: bool, gpus: Sequence[int] | None, threads: int) -> dict[str, str]:
    """The environment of a job process.

    Args:
        base: The agent's own.
        poc: Whether all of the federation runs on this machine, to try it.
        gpus: The job's, as indices into those that the agent sees; None: all of them.
        threads: How many threads numeric libraries may use.

    Raises:
        ConfigError: The agent does not see such a GPU.
    """
    allowed = ALWAYS | IN_POC if poc else ALWAYS
    environment = {name: value for name, value in base.items() if name in allowed or name.startswith("LC_")}
    environment.update({name: base.get(name, value) for name, value in MALLOC.items()})
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if gpus is not None:
        environment[_GPUS] = ",".join(_visible(base.get(_GPUS), gpus))
    return environment


def _visible(seen: str | None, gpus: Sequence[int]) -> list[str]:
    """The names of GPUs for CUDA, which counts them anew in every process from those it is let see."""
    if seen is None:
        return [str(number) for number in gpus]
    names = [name.strip() for name in seen.split(",") if name.strip()]
    for number in gpus:
        if number >= len(names):
            raise ConfigError(f"there is no GPU {number}: {_GPUS} names {len(names)}")
    return [names[number] for number in gpus]
