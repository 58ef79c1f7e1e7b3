"""sdk/edge_state.h, compiled to WebAssembly, says what the node hears, and reads what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.model.function import FunctionSection, Manifest, State
from edgeagent.node.node import Node
from tests.guests.c_guests import compiled_c
from tests.integration.test_state_guest import ENGINES, play
from tests.unit.node.fake_state import FakeState

SOURCE = r"""
#include "edge_state.h"
EDGE_ALLOCATOR
static void expect(int holds, const char *what) {
  if (!holds) {
    edge_fail(what);
  }
}
EDGE_HANDLER(input, length) {
  (void)input;
  (void)length;
  struct edge_version version;
  struct edge_value value = edge_state_get("tasks/none");
  expect(value.status == EDGE_STATE_NONE && value.at == 0, "none");
  expect(edge_state_version("tasks/c", &version) == 0 && version.text[0] == 0, "no version");
  expect(edge_state_cas("tasks/c", &version, "1", 1) >= 0 && version.text[0] != 0, "cas");
  struct edge_version old = version;
  expect(edge_state_cas("tasks/c", &version, "2", 1) >= 0, "cas again");
  expect(edge_state_cas("tasks/c", &old, "3", 1) == EDGE_STATE_VERSION, "cas of an old version");
  expect(edge_state_length(old.text) == edge_state_length(version.text), "the version there is");
  expect(edge_state_put("other/x", "1", 1) == EDGE_STATE_DENIED, "denied");
  expect(edge_state_put_flags("tasks/d", "4", 1, EDGE_STATE_NOW) == EDGE_STATE_LOCAL, "now");
  expect(edge_state_delete("tasks/d") >= 0, "delete");
  value = edge_state_get("tasks/empty");
  expect(value.status == 0 && value.length == 0 && value.at != 0, "empty");
  value = edge_state_get("tasks/large");
  expect(value.length == 700000 && value.at[0] == 7 && value.at[699999] == 7, "large");

  struct edge_group group = edge_group_of(600);
  edge_group_get(&group, "tasks/c");
  edge_group_put(&group, "tasks/e", "five", 4);
  edge_group_delete(&group, "tasks/none");
  edge_group_get(&group, "tasks/none");
  edge_group_add(&group, EDGE_STATE_OP_PUT, EDGE_STATE_EXPECT, "tasks/c", &version, "6", 1);
  expect(edge_group_run(&group) == 0, "group");
  struct edge_answer answer;
  expect(edge_group_next(&group, &answer) && answer.status == 0 && answer.value_length == 1 && answer.value[0] == '2' &&
             answer.key_length == 7 && answer.key[6] == 'c' && answer.version_length > 4,
         "first answer");
  expect(edge_group_next(&group, &answer) && answer.status == EDGE_STATE_LOCAL && answer.key[6] == 'e', "second");
  expect(edge_group_next(&group, &answer) && edge_group_next(&group, &answer), "third and fourth");
  expect(answer.status == EDGE_STATE_NONE, "the fourth found none");
  expect(edge_group_next(&group, &answer) && !edge_group_next(&group, &answer), "fifth and last");

  uint32_t keys = 0, bytes = 0;
  struct edge_keys all = edge_state_list("tasks/");
  while (edge_keys_next(&all)) {
    keys += 1;
    bytes += all.size + all.key_length;
  }
  expect(all.status == 0, "list");
  struct edge_keys none = edge_state_list("other/");
  expect(!edge_keys_next(&none) && none.status == EDGE_STATE_DENIED, "list of others");
  unsigned char *output = (unsigned char *)edge_take(8);
  edge_state_store(edge_state_store(output, keys, 4), bytes, 4);
  return edge_reply(output, 8);
}
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return compiled_c(SOURCE, tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_helper(tmp_path: Path, guest: bytes, engine: str) -> None:
    async def scenario(node: Node, port: FakeState) -> None:
        manifest = Manifest(function=FunctionSection(name="all"), state=State(prefixes=("tasks/",)))
        await node.functions.deploy("all", guest, manifest)
        port.set("tasks/empty", b"")
        port.set("tasks/large", b"\x07" * 700_000)
        for i in range(2500):
            port.set(f"tasks/n/{i:04}", b"12345")
        told = bytes((await node.invoker.invoke("all", b"")).output)
        keys, size = int.from_bytes(told[:4], "little"), int.from_bytes(told[4:], "little")
        assert keys == len(port.values) == 2504
        assert size == sum(len(key) + len(value) for key, value in port.values.items())
        assert port.values["tasks/c"] == b"6"
        assert port.values["tasks/e"] == b"five"

    play(tmp_path, engine, scenario)
