;; A plugin of the 0.2 worlds that can be made to misbehave: `;;HERE` marks are replaced by a test. `;;TOOL` is the
;; export of one kind of tool: puzzle.wat, text.wat or grader.wat.
;; Memory: the result is put at 2048, the manifest at 4096; everything that is allocated grows upwards from $next.
(module
  ;;IMPORTS
  (memory (export "memory") 8)
  (global $next (mut i32) (i32.const 262144))
  (table $table 1 funcref)
  ;;GLOBALS

  ;; Never frees. Grows the memory when the host brings more than fits.
  (func $alloc (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    ;;REALLOC
    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (block $enough
      (loop $grow
        (br_if $enough (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
        unreachable))
    (local.get $at))

  (func (export "selkie:plugin/manifest@0.2.0#describe") (result i32)
    ;;DESCRIBE
    (i32.store (i32.const 1024) (i32.const 4096))
    (i32.store (i32.const 1028) (i32.const MANIFEST_BYTES))
    (i32.const 1024))
  (data (i32.const 4096) "MANIFEST_TEXT")

  ;;TOOL
  ;;FUNCTIONS
)
