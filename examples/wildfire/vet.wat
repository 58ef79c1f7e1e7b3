;; Looks at every pixel of a mask again and again, and passes the mask on as it came: a stand-in for a costly model, so
;; that the demo has time to kill the node that runs it. 1500 rounds of a multiply and an addition for each byte.
(module
  (memory (export "memory") 2)

  ;; Where the host may put `len` bytes of input: after the first 1 KiB. Grows the memory to fit.
  (func (export "edge_alloc") (param $len i32) (result i32)
    (local $pages i32)
    (local.set $pages (i32.shr_u (local.get $len) (i32.const 16)))
    (if (local.get $pages)
      (then (if (i32.eq (memory.grow (local.get $pages)) (i32.const -1)) (then (unreachable)))))
    (i32.const 1024))

  (func (export "edge_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $at i32) (local $end i32) (local $sum i32) (local $round i32)
    (local.set $end (i32.add (local.get $ptr) (local.get $len)))
    (block $enough
      (loop $again
        (br_if $enough (i32.ge_u (local.get $round) (i32.const 1500)))
        (local.set $round (i32.add (local.get $round) (i32.const 1)))
        (local.set $at (local.get $ptr))
        (block $done
          (loop $next
            (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
            (local.set $sum
              (i32.add (i32.mul (local.get $sum) (i32.const 31)) (i32.load8_u (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $next)))
        (br $again)))
    (i32.store (i32.const 0) (local.get $sum))
    (i64.or
      (i64.shl (i64.extend_i32_u (local.get $ptr)) (i64.const 32))
      (i64.extend_i32_u (local.get $len)))))
