;; bytes: unreachable
(module
  (memory (export "memory") 2)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func $handle (export "edge_handle") (param $p i32) (param $n i32) (result i64)
    (unreachable)))
