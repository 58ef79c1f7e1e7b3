"""sdk/edge_accel.h, compiled to WebAssembly, describes what the node reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.node.node import Node
from tests.guests.c_guests import compiled_c
from tests.integration.test_accel_guest import play
from tests.integration.test_state_guest import ENGINES

SOURCE = r"""
#include "edge_accel.h"
EDGE_ALLOCATOR
static struct edge_work work;
static void expect(int holds, const char *what) {
  if (!holds) {
    edge_fail(what);
  }
}
EDGE_HANDLER(input, length) {
  (void)input;
  (void)length;
  static float image[4][6], small[6];
  static int16_t whole[3][2];
  static int64_t place;
  for (int i = 0; i < 24; ++i) {
    image[i / 6][i % 6] = (float)i;
  }
  expect(edge_accel_has("topk") == 1 && edge_accel_has("top") == 0 && edge_accel_has("topkk") == 0, "has");
  expect(edge_accel_has(0) == 1, "has any");
  struct edge_operand all = edge_array2(EDGE_F32, image, 4, 6);

  edge_begin(&work); /* every second column of the last three rows, backwards, summed over the rows */
  edge_in(&work, edge_sliced(edge_sliced(all, 0, 3, 3, -1), 1, 0, 3, 2));
  edge_out(&work, edge_array1(EDGE_F32, small, 3));
  edge_number(&work, 1);
  expect(edge_accel_run(&work, "sum") == 0, "sum");
  expect(small[0] == 36 && small[1] == 42 && small[2] == 48 && small[3] == 0, "sums");

  edge_begin(&work);
  edge_in(&work, edge_transposed(edge_sliced(edge_sliced(all, 0, 0, 2, 1), 1, 0, 3, 1), 0, 1));
  edge_in(&work, edge_scalar(EDGE_F32, &image[0][2]));
  edge_out(&work, edge_array2(EDGE_I16, whole, 3, 2));
  edge_text(&work, "where(a > b, a / b, -a)");
  expect(edge_accel_run(&work, "elementwise") == 0, "elementwise");
  expect(whole[0][0] == 0 && whole[1][0] == -1 && whole[2][0] == -2, "first column");
  expect(whole[0][1] == 3 && whole[1][1] == 4 && whole[2][1] == 4, "second column, halves to even");
  edge_text(&work, "a + c");
  expect(edge_accel_run(&work, "elementwise") == EDGE_ACCEL_EXPRESSION, "expression");

  edge_begin(&work);
  edge_in(&work, edge_picked(all, 0, 2));
  edge_out(&work, edge_scalar(EDGE_I64, &place));
  expect(edge_accel_run(&work, "argmax") == 0 && place == 5, "argmax");
  expect(edge_accel_run(&work, "nothing") == EDGE_ACCEL_NONE, "none");
  expect(edge_accel_run(&work, "softmax") == EDGE_ACCEL_DTYPE, "dtype");
  edge_number(&work, 2);
  expect(edge_accel_run(&work, "argmax") == EDGE_ACCEL_BAD, "number");

  edge_begin(&work);
  edge_in(&work, all);
  edge_out(&work, edge_array2(EDGE_F32, image, 4, 5));
  expect(edge_accel_run(&work, "softmax") == EDGE_ACCEL_OVERLAP, "overlap");
  edge_begin(&work);
  edge_in(&work, all);
  edge_out(&work, edge_array1(EDGE_F32, small, 3));
  expect(edge_accel_run(&work, "softmax") == EDGE_ACCEL_SHAPE, "shape");
  edge_begin(&work);
  edge_in(&work, edge_array4(EDGE_C128, image, 65536, 65536, 65536, 65536));
  edge_out(&work, edge_array3(EDGE_U8, small, 1, 1, 1));
  expect(edge_accel_run(&work, "softmax") == EDGE_ACCEL_RANGE, "range");
  return edge_reply("ok", 2);
}
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled_c(SOURCE, tmp_path_factory.mktemp("accel"))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_helper(tmp_path: Path, guest: bytes, engine: str) -> None:
    async def scenario(node: Node) -> None:
        await node.functions.deploy("all", guest)
        assert bytes((await node.invoker.invoke("all", b"")).output) == b"ok"

    play(tmp_path, engine, scenario)
