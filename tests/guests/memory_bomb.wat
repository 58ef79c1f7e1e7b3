;; bytes: takes all the memory it is given, then says how many pages it has
(module
  (memory (export "memory") 2)
  (func (export "edge_alloc") (param i32) (result i32) (i32.const 1024))
  (func $handle (export "edge_handle") (param $p i32) (param $n i32) (result i64)
    (block $full (loop $l (br_if $full (i32.eq (memory.grow (i32.const 16)) (i32.const -1))) (br $l))) (i32.store (i32.const 8) (memory.size)) (i64.const 0x800000004)))
