;; A bytes function written by hand: turns a-z into A-Z, in place.
;; Deploy it as it is: edgeagent deploy examples/hello-wat/hello.wat --name upper
(module
  (memory (export "memory") 2)

  ;; Where the host may put `len` bytes of input: after the first 1 KiB. Grows the memory to fit.
  (func (export "edge_alloc") (param $len i32) (result i32)
    (local $pages i32)
    (local.set $pages (i32.shr_u (local.get $len) (i32.const 16)))
    (if (local.get $pages)
      (then (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (unreachable)))))
    (i32.const 1024))

  ;; Input at ptr, len bytes; the result packs pointer << 32 | length of the output.
  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $at i32) (local $end i32) (local $c i32)
    (local.set $at (local.get $ptr))
    (local.set $end (i32.add (local.get $ptr) (local.get $len)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $c (i32.load8_u (local.get $at)))
        (if (i32.lt_u (i32.sub (local.get $c) (i32.const 97)) (i32.const 26))
          (then (i32.store8 (local.get $at) (i32.sub (local.get $c) (i32.const 32)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
      (i64.extend_i32_u (local.get $len)))))
