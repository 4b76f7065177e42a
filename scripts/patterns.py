"""What ONNX Runtime's RegexFullMatch makes of the patterns in runtime/routine/tests/patterns.json.

Writes the file anew: for each pattern the texts that match it, or null where the pattern is refused.
"""

import json
from pathlib import Path

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper

PATH = Path(__file__).parent.parent / "runtime/routine/tests/patterns.json"


def matched(pattern, texts):
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    x = helper.make_tensor_value_info("x", TensorProto.STRING, [None])
    y = helper.make_tensor_value_info("y", TensorProto.BOOL, [None])
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString())
    except Exception as error:
        if "regex pattern" not in str(error).lower():
            raise
        return None
    (truth,) = session.run(None, {"x": numpy.array(texts, dtype=object)})
    return [text for text, matches in zip(texts, truth) if matches]


def main():
    stored = json.loads(PATH.read_text())
    texts = stored["texts"]
    lines = [f"  {json.dumps(p)}: {json.dumps(matched(p, texts))}" for p in stored["patterns"]]
    body = ",\n".join(lines)
    PATH.write_text(f'{{"texts": {json.dumps(texts)},\n"patterns": {{\n{body}\n}}}}\n')


main()
