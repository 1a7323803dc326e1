import torch

from headrace.ops.grades import grades


def test_places_of_each_row_make_its_grades():
    score_N = torch.tensor([0.1, 0.9, 0.5, 0.7, 3.0, 2.0])
    offsets = torch.tensor([0, 4, 4, 6])
    assert grades(score_N, offsets, (1, 3)).tolist() == [0, 2, 1, 1, 2, 1]


def test_ties_go_by_order_and_nothing_has_no_grades():
    assert grades(torch.ones(3), torch.tensor([0, 3]), (1, 2)).tolist() == [2, 1, 0]
    assert grades(torch.zeros(0), torch.tensor([0, 0])).tolist() == []
