# workerd with one worker; the benchmark copies this file, worker.js and add1.wasm into one folder and overrides the
# address with --socket-addr.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .add1)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const add1 :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "add1.wasm", wasm = embed "add1.wasm"),
  ],
  compatibilityDate = "2025-01-01",
);
