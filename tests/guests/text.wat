  ;; One document a source: its text, where it lies. At the mark `$items` and `$count` are the answer.
  (func (export "selkie:plugin/text-augmenter@0.2.0#augment")
    (param $tool i32) (param $tool_size i32) (param $params i32) (param $params_size i32) (param $seed i64)
    (param $sources i32) (param $count i32) (result i32)
    (local $items i32) (local $at i32) (local $list i32)
    (local.set $items
      (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $count) (i32.const 8))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $count)))
        (local.set $list (i32.add (local.get $items) (i32.mul (local.get $at) (i32.const 8))))
        (i32.store (local.get $list)
          (i32.add (local.get $sources) (i32.add (i32.mul (local.get $at) (i32.const 24)) (i32.const 8))))
        (i32.store offset=4 (local.get $list) (i32.const 1))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    ;;CALL
    (i32.store8 (i32.const 2048) (i32.const 0))
    (i32.store (i32.const 2052) (local.get $items))
    (i32.store (i32.const 2056) (local.get $count))
    (i32.const 2048))
