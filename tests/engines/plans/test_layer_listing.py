"""The builder's listing of layers, counted; lines shortened from real logs of TensorRT-RTX 1.7."""

# ruff: noqa: E501  lines of a log

from engines.plans.layer_listing import Layer, count_formats, layers_from_log

LISTING = """Layers:
Name: __mye19680_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0
Name: __myl_Cast_myl0_1, LayerType: kgen, Inputs: [ { Name: first, Dimensions: [-1,16], Datatype: Float, Format: (L) R }], Constants: [], Outputs: [ { Name: a, Dimensions: [1], Datatype: Half, Format: (NHWC) C }]
Name: the_conv_myl0_2, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [1,32], Datatype: Int8, Format: (NHWC) C }, { Name: b, Datatype: Half }], Constants: [ { Name: w, Datatype: Int8 }], Outputs: [ { Name: c, Datatype: Float }]
Name: other/Conv_myl0_3, LayerType: correlation, Inputs: [ { Name: c, Dimensions: [1,32], Datatype: Half, Format: (NHWC) C }], Constants: []
Name: the_matmul_myl0_4, LayerType: gemm, Inputs: [ { Name: q, Dimensions: [-1,16], Datatype: Int8, Format: (L) R }], Constants: []
Name: _gemm_mha_v2_myl0_31, LayerType: kgen, Inputs: [ { Name: d, Dimensions: [-1,-1,32], Datatype: Half, Format: (A) F }], Constants: []

Bindings:
Name: x, LayerType: correlation, Inputs: [ { Datatype: Half }]
"""


def test_layers_are_found_between_the_headings() -> None:
    layers = layers_from_log(["Something before\nName: no, LayerType: correlation, Inputs: [", LISTING, "After"])
    assert [layer.name for layer in layers][2:4] == ["the_conv_myl0_2", "other/Conv_myl0_3"]
    assert layers[0] == Layer(name="__mye19680_0_myl0_0", kind="other", dtype="")
    assert layers[2] == Layer(name="the_conv_myl0_2", kind="convolution", dtype="Int8")
    assert len(layers) == 6


def test_counts_by_kind_and_format() -> None:
    assert count_formats(layers_from_log([LISTING])) == {
        "attention": {"Half": 1},
        "convolution": {"Half": 1, "Int8": 1},
        "matmul": {"Int8": 1},
        "other": {"Float": 1},
    }


def test_a_log_without_a_listing() -> None:
    assert layers_from_log(["nothing", "here"]) == ()


def test_the_last_listing_counts() -> None:
    assert len(layers_from_log([LISTING, LISTING])) == 6
