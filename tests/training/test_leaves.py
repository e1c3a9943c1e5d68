import numpy as np

from training.leaves import dead_leaves, dead_leaves_stack, held_out_seeds, training_seeds


def test_training_and_held_out_seeds_never_meet() -> None:
    assert list(training_seeds(3)) == [0, 2, 4]
    assert list(held_out_seeds(3)) == [1, 3, 5]
    assert not set(training_seeds(500)) & set(held_out_seeds(500))


def test_a_seed_always_gives_the_same_picture_and_another_seed_another() -> None:
    first, again, other = dead_leaves(4, 32), dead_leaves(4, 32), dead_leaves(6, 32)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_pictures_use_the_range_and_have_edges() -> None:
    stack = dead_leaves_stack(training_seeds(6), 48)
    assert stack.shape == (6, 48, 48, 3) and stack.dtype == np.uint8
    assert stack.min() < 40 and stack.max() > 215
    slopes = np.abs(np.diff(stack.astype(np.int16), axis=2))
    assert slopes.max() > 60, "no leaf occludes another"
    assert np.median(slopes) < 12, "nothing but noise"


def test_the_number_of_processes_does_not_change_the_pictures() -> None:
    np.testing.assert_array_equal(
        dead_leaves_stack(training_seeds(2), 24, processes=2), dead_leaves_stack(training_seeds(2), 24)
    )
