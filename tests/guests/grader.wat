  ;; Exact match of two answers; an edit is worth 1 if it has documents. At the mark `$items` and `$count` are the
  ;; scores: (value, reasons), 16 bytes each.
  (func (export "selkie:plugin/grader@0.2.0#grade")
    (param $tool i32) (param $tool_size i32) (param $params i32) (param $params_size i32) (param $seed i64)
    (param $submissions i32) (param $count i32) (result i32)
    (local $items i32) (local $at i32)
    (local.set $items
      (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 16))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $count)))
        (f64.store (i32.add (local.get $items) (i32.mul (local.get $at) (i32.const 16)))
          (call $score (i32.add (local.get $submissions) (i32.mul (local.get $at) (i32.const 28)))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    ;;CALL
    (i32.store8 (i32.const 2048) (i32.const 0))
    (i32.store (i32.const 2052) (local.get $items))
    (i32.store (i32.const 2056) (local.get $count))
    (i32.const 2048))

  (func $score (param $submission i32) (result f64)
    (local $at i32)
    ;;SCORE
    (if (i32.eq (i32.load8_u (local.get $submission)) (i32.const 2))
      (then (return (f64.convert_i32_u (i32.ne (i32.load offset=24 (local.get $submission)) (i32.const 0))))))
    (if (i32.ne (i32.load offset=8 (local.get $submission)) (i32.load offset=16 (local.get $submission)))
      (then (return (f64.const 0))))
    (loop $next
      (if (i32.eq (local.get $at) (i32.load offset=8 (local.get $submission))) (then (return (f64.const 1))))
      (if (i32.ne
            (i32.load8_u (i32.add (i32.load offset=4 (local.get $submission)) (local.get $at)))
            (i32.load8_u (i32.add (i32.load offset=12 (local.get $submission)) (local.get $at))))
        (then (return (f64.const 0))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next))
    unreachable)
