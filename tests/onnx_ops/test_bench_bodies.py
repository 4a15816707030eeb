"""Every op that is no layer has a line in the table, and its model is valid."""

import onnx

from onnx_ops.bench_bodies import FUNCTIONS, cases


def test_every_op_is_timed():
    assert {case.node.op_type for case in cases()} == {body.name for body in FUNCTIONS}


def test_models_are_valid():
    for case in cases():
        model = onnx.load_from_string(case.model())
        onnx.checker.check_model(model)
        assert {x.name for x in model.graph.input} == set(case.inputs)
        assert {*case.inputs, *case.constants()} == set(case.node.input)
