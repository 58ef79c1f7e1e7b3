;; bytes: the byte it finds at 100,000 before it writes 7 there: always 0 in a fresh instance
(module
  (memory (export "memory") 4)
  (global $seen (mut i32) (i32.const 0))
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "edge_handle") (param i32 i32) (result i64)
    (i32.store8 (i32.const 8) (i32.load8_u (i32.const 100000)))
    (i32.store8 (i32.const 9) (global.get $seen))
    (i32.store8 (i32.const 100000) (i32.const 7))
    (global.set $seen (i32.const 7))
    (i64.const 0x800000002)))
