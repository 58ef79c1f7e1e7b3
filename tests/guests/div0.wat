;; bytes: divides by zero
(module
  (memory (export "memory") 2)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func $handle (export "edge_handle") (param $p i32) (param $n i32) (result i64)
    (i64.div_u (i64.const 1) (i64.extend_i32_u (i32.sub (local.get $n) (local.get $n))))))
