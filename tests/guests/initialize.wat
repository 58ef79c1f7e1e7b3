;; bytes: a WASI reactor; _initialize fills a byte that edge_handle gives back, and prints
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "constructed\n")
  (func (export "_initialize")
    (i32.store (i32.const 16) (i32.const 64)) (i32.store (i32.const 20) (i32.const 12))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))
    (i32.store8 (i32.const 8) (i32.const 43)))
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "edge_handle") (param i32 i32) (result i64) (i64.const 0x800000001)))
