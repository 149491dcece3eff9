;; A plugin of the 0.1 world that can be made to misbehave: `;;HERE` marks are replaced by a test.
;; Memory: the manifest is put at 4096; everything that is allocated grows upwards from $next.
(module
  (memory (export "memory") 8)
  (global $next (mut i32) (i32.const 262144))
  (table $table 1 funcref)
  ;;GLOBALS

  ;; Never frees. Grows the memory when the host brings more than fits.
  (func $alloc (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        unreachable))
    (local.get $at))

  (func (export "selkie:plugin/manifest@0.1.0#describe") (result i32)
    ;;DESCRIBE
    (i32.store (i32.const 1024) (i32.const 4096))
    (i32.store (i32.const 1028) (i32.const MANIFEST_BYTES))
    (i32.const 1024))
  (data (i32.const 4096) "MANIFEST_TEXT")

  ;; `$items` and `$count` are the batch as the canonical ABI lays it out, so answering with them is the
  ;; identity. The result at 2048 is (tag, list) or (tag, kind, message).
  (func (export "selkie:plugin/puzzle-augmenter@0.1.0#augment")
    (param $tool i32) (param $tool_size i32) (param $params i32) (param $params_size i32) (param $seed i64)
    (param $items i32) (param $count i32) (result i32)
    ;;CALL
    (i32.store8 (i32.const 2048) (i32.const 0))
    (i32.store (i32.const 2052) (local.get $items))
    (i32.store (i32.const 2056) (local.get $count))
    (i32.const 2048))
  ;;FUNCTIONS
)
