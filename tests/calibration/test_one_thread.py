import numpy as np
import pytest

from calibration import one_thread
from calibration.one_thread import products_on_one_thread


def test_the_number_of_threads_is_one_inside_and_what_it_was_afterwards() -> None:
    found = one_thread._openblas()
    if found is None:
        pytest.skip("this NumPy was not built with OpenBLAS")
    get, put = found
    before = get()
    put(2)
    try:
        with products_on_one_thread():
            assert get() == 1
        assert get() == 2
    finally:
        put(before)


def test_another_blas_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_thread, "_openblas", lambda: None)
    with products_on_one_thread():
        assert (np.eye(3) @ np.eye(3) == np.eye(3)).all()
