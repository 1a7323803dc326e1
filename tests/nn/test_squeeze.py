import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.nn.squeeze import Squeeze, linear_log


def test_linear_log_is_smooth_and_odd_and_small():
    x = torch.tensor([-1.0, 1.0, 0.3, -0.3], requires_grad=True)
    y = linear_log(x)
    assert y.tolist() == x.tolist()
    y.sum().backward()
    assert x.grad.tolist() == [1.0] * 4
    beyond = torch.tensor([1 + 1e-4, -1 - 1e-4, 0.0], requires_grad=True)
    linear_log(beyond).sum().backward()
    torch.testing.assert_close(beyond.grad, torch.ones(3), atol=2e-4, rtol=0)
    assert linear_log(torch.tensor([6e4], dtype=torch.float16)).isfinite().all()


@given(st.floats(-6e4, 6e4))
def test_linear_log_of_the_negative_is_the_negative(x):
    a, b = linear_log(torch.tensor([x, -x]))
    assert a == -b


def test_a_part_alone_is_scaled_as_in_the_whole():
    squeeze = Squeeze([3, 2, 4])
    squeeze.bias.data.normal_()
    x_ND = torch.randn(6, 9)
    whole_ND = squeeze.scaled(x_ND, squeeze.scales(x_ND))
    for columns in (torch.arange(0, 5), torch.arange(5, 9), torch.arange(9)):
        part_ND = squeeze.part(x_ND[:, columns], columns)
        torch.testing.assert_close(part_ND, whole_ND[:, columns])
