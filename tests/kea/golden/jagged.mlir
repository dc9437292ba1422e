func.func @main(%x: memref<?xf32>, %o: memref<?xi32>, %y: memref<?xf32>, %B: index, %B1: index, %T: index) attributes {llvm.emit_c_interface} {
  func.call @kernel.k(%x, %o, %y, %B, %B1, %T) : (memref<?xf32>, memref<?xi32>, memref<?xf32>, index, index, index) -> ()
  return
}

func.func @kernel.k(%x: memref<?xf32>, %o: memref<?xi32>, %y: memref<?xf32>, %B: index, %B1: index, %T: index) {
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%x) : (memref<?xf32>) -> ()
  "kea.bind"(%o) : (memref<?xi32>) -> ()
  "kea.bind"(%y) : (memref<?xf32>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 1 : i32, offset = 64 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 2 : i32, offset = 128 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 3 : i32, offset = 192 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 4 : i32, offset = 256 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  %lo = "kea.tile"() {buffer = 0 : i32, control = true} : () -> memref<i32, 1>
  %hi = "kea.tile"() {buffer = 1 : i32, control = true} : () -> memref<i32, 1>
  %z = "kea.tile"() {buffer = 2 : i32, control = false} : () -> memref<f32, 1>
  %v = "kea.tile"() {buffer = 3 : i32, control = false} : () -> memref<8xf32, 1>
  %r = "kea.tile"() {buffer = 4 : i32, control = false} : () -> memref<f32, 1>
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %i = arith.subi %B, %c0 : index
  %i_1 = arith.addi %i, %c0 : index
  %i_2 = arith.floordivsi %i_1, %c1 : index
  %i_3 = arith.maxsi %i_2, %c0 : index
  scf.for %pid = %c0 to %i_3 step %c1 {
    "kea.instance"(%pid, %i_3) : (index, index) -> ()
    %i_4 = arith.muli %pid, %c1 : index
    %i_5 = arith.addi %c0, %i_4 : index
    "kea.load"(%lo, %o, %i_5) {steps = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0 : i64} : (memref<i32, 1>, memref<?xi32>, index) -> ()
    %i_6 = arith.addi %i_5, %c1 : index
    "kea.load"(%hi, %o, %i_6) {steps = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0 : i64} : (memref<i32, 1>, memref<?xi32>, index) -> ()
    "kea.fill"(%z) {value = 0.0 : f64} : (memref<f32, 1>) -> ()
    %lo_now = "kea.read"(%lo) : (memref<i32, 1>) -> index
    %hi_now = "kea.read"(%hi) : (memref<i32, 1>) -> index
    scf.for %t = %lo_now to %hi_now step %c8 {
      "kea.loop_step"() : () -> ()
      %i_7 = arith.subi %hi_now, %t : index
      "kea.load"(%v, %x, %t, %i_7) {steps = array<i64: 1>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<8xf32, 1>, memref<?xf32>, index, index) -> ()
      "kea.reduce"(%r, %v) {fn = "sum", dim = 0 : i32} : (memref<f32, 1>, memref<8xf32, 1>) -> ()
      "kea.binary"(%z, %z, %r) {fn = "add"} : (memref<f32, 1>, memref<f32, 1>, memref<f32, 1>) -> ()
    }
    "kea.store"(%z, %y, %i_5) {steps = array<i64>, operandSegmentSizes = array<i32: 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0>} : (memref<f32, 1>, memref<?xf32>, index) -> ()
  }
  "kea.end"() : () -> ()
  return
}
