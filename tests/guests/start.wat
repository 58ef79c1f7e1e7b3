;; bytes: a start function fills a byte that edge_handle gives back
(module
  (memory (export "memory") 1)
  (func $begin (i32.store8 (i32.const 8) (i32.const 42)))
  (start $begin)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "edge_handle") (param i32 i32) (result i64) (i64.const 0x800000001)))
