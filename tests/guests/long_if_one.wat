;; bytes: short, unless its first byte is 1: then about 20 million turns
(module
  (memory (export "memory") 2)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func $handle (export "edge_handle") (param $p i32) (param $n i32) (result i64)
    (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 1)) (then (loop $l (local.set $n (i32.add (local.get $n) (i32.const 1))) (br_if $l (i32.lt_u (local.get $n) (i32.const 20000000)))))) (i64.const 3)))
