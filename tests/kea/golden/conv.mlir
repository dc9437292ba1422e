func.func @main(%x: memref<?x?x?x?xf16>, %w: memref<?x?x?x?xf16>, %y: memref<?x?x?x?xf32>, %N: index, %C: index, %H: index, %W: index, %O: index) attributes {llvm.emit_c_interface} {
  func.call @kernel.k(%x, %w, %y, %N, %C, %H, %W, %O) : (memref<?x?x?x?xf16>, memref<?x?x?x?xf16>, memref<?x?x?x?xf32>, index, index, index, index, index) -> ()
  return
}

func.func @kernel.k(%x: memref<?x?x?x?xf16>, %w: memref<?x?x?x?xf16>, %y: memref<?x?x?x?xf32>, %N: index, %C: index, %H: index, %W: index, %O: index) {
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%x) : (memref<?x?x?x?xf16>) -> ()
  "kea.bind"(%w) : (memref<?x?x?x?xf16>) -> ()
  "kea.bind"(%y) : (memref<?x?x?x?xf32>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 512 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 1 : i32, offset = 512 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 2 : i32, offset = 640 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 3 : i32, offset = 704 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 4 : i32, offset = 832 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 5 : i32, offset = 896 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 6 : i32, offset = 1024 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 7 : i32, offset = 1088 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 8 : i32, offset = 1216 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 9 : i32, offset = 1344 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 10 : i32, offset = 1472 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 11 : i32, offset = 1536 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  %z = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<16x8xf32, 1>
  %m_index = "kea.tile"() {buffer = 1 : i32, control = true} : () -> memref<16xi64, 1>
  %scalar = "kea.tile"() {buffer = 2 : i32, control = true} : () -> memref<i64, 1>
  %coord = "kea.tile"() {buffer = 3 : i32, control = true} : () -> memref<16xi64, 1>
  %coord_1 = "kea.reshape"(%coord) : (memref<16xi64, 1>) -> memref<16x1xi64, 1>
  %scalar_1 = "kea.tile"() {buffer = 4 : i32, control = true} : () -> memref<i64, 1>
  %coord_2 = "kea.tile"() {buffer = 5 : i32, control = true} : () -> memref<16xi64, 1>
  %scalar_2 = "kea.tile"() {buffer = 6 : i32, control = true} : () -> memref<i64, 1>
  %coord_3 = "kea.tile"() {buffer = 7 : i32, control = true} : () -> memref<16xi64, 1>
  %coord_3_1 = "kea.reshape"(%coord_3) : (memref<16xi64, 1>) -> memref<16x1xi64, 1>
  %coord_4 = "kea.tile"() {buffer = 8 : i32, control = true} : () -> memref<16xi64, 1>
  %coord_4_1 = "kea.reshape"(%coord_4) : (memref<16xi64, 1>) -> memref<16x1xi64, 1>
  %v = "kea.tile"() {buffer = 9 : i32, control = false} : () -> memref<16x4xf16, 1>
  %u = "kea.tile"() {buffer = 10 : i32, control = false} : () -> memref<8x4xf16, 1>
  %t = "kea.tile"() {buffer = 11 : i32, control = false} : () -> memref<4x8xf16, 1>
  %coord_5 = "kea.reshape"(%coord) : (memref<16xi64, 1>) -> memref<16x1xi64, 1>
  %coord_3_2 = "kea.reshape"(%coord_3) : (memref<16xi64, 1>) -> memref<16x1xi64, 1>
  %coord_4_2 = "kea.reshape"(%coord_4) : (memref<16xi64, 1>) -> memref<16x1xi64, 1>
  %c0 = arith.constant 0 : index
  %c15 = arith.constant 15 : index
  %c16 = arith.constant 16 : index
  %c7 = arith.constant 7 : index
  %c8 = arith.constant 8 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c3 = arith.constant 3 : index
  %cm1 = arith.constant -1 : index
  %i = arith.muli %N, %H : index
  %i_1 = arith.muli %i, %W : index
  %i_2 = arith.subi %i_1, %c0 : index
  %i_3 = arith.addi %i_2, %c15 : index
  %i_4 = arith.floordivsi %i_3, %c16 : index
  %i_5 = arith.maxsi %i_4, %c0 : index
  %i_6 = arith.subi %O, %c0 : index
  %i_7 = arith.addi %i_6, %c7 : index
  %i_8 = arith.floordivsi %i_7, %c8 : index
  %i_9 = arith.maxsi %i_8, %c0 : index
  %i_10 = arith.muli %i_5, %i_9 : index
  scf.for %pid = %c0 to %i_10 step %c1 {
    "kea.instance"(%pid, %i_10) : (index, index) -> ()
    %i_11 = arith.remui %pid, %i_9 : index
    %i_12 = arith.divui %pid, %i_9 : index
    %i_13 = arith.muli %i_12, %c16 : index
    %i_14 = arith.addi %c0, %i_13 : index
    %i_15 = arith.muli %i_11, %c8 : index
    %i_16 = arith.addi %c0, %i_15 : index
    "kea.fill"(%z) {value = 0.0 : f64} : (memref<16x8xf32, 1>) -> ()
    "kea.iota"(%m_index, %i_14) {step = 1 : i64} : (memref<16xi64, 1>, index) -> ()
    "kea.fill"(%scalar) {value = 42 : i64} : (memref<i64, 1>) -> ()
    "kea.binary"(%coord, %m_index, %scalar) {fn = "floordiv"} : (memref<16xi64, 1>, memref<16xi64, 1>, memref<i64, 1>) -> ()
    "kea.fill"(%scalar_1) {value = 7 : i64} : (memref<i64, 1>) -> ()
    "kea.binary"(%coord_2, %m_index, %scalar_1) {fn = "floordiv"} : (memref<16xi64, 1>, memref<16xi64, 1>, memref<i64, 1>) -> ()
    "kea.fill"(%scalar_2) {value = 6 : i64} : (memref<i64, 1>) -> ()
    "kea.binary"(%coord_3, %coord_2, %scalar_2) {fn = "mod"} : (memref<16xi64, 1>, memref<16xi64, 1>, memref<i64, 1>) -> ()
    "kea.binary"(%coord_4, %m_index, %scalar_1) {fn = "mod"} : (memref<16xi64, 1>, memref<16xi64, 1>, memref<i64, 1>) -> ()
    scf.for %c = %c0 to %C step %c4 {
      "kea.loop_step"() : () -> ()
      scf.for %p = %c0 to %c3 step %c1 {
        "kea.loop_step"() : () -> ()
        scf.for %q = %c0 to %c3 step %c1 {
          "kea.loop_step"() : () -> ()
          %i_17 = arith.muli %cm1, %c1 : index
          %i_18 = arith.addi %p, %i_17 : index
          %i_19 = arith.muli %cm1, %c1 : index
          %i_20 = arith.addi %q, %i_19 : index
          %i_21 = arith.subi %i_1, %i_14 : index
          %i_22 = arith.subi %C, %c : index
          "kea.load"(%v, %x, %c0, %c, %i_18, %i_20, %i_21, %i_22, %coord_1, %coord_3_1, %coord_4_1) {steps = array<i64: 0, 0, 0, 1, 0, 0, 0, 0>, operandSegmentSizes = array<i32: 1, 1, 4, 2, 1, 0, 1, 1, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<16x4xf16, 1>, memref<?x?x?x?xf16>, index, index, index, index, index, index, memref<16x1xi64, 1>, memref<16x1xi64, 1>, memref<16x1xi64, 1>) -> ()
          %i_23 = arith.subi %O, %i_16 : index
          %i_24 = arith.subi %C, %c : index
          "kea.load"(%u, %w, %i_16, %c, %p, %q, %i_23, %i_24) {steps = array<i64: 1, 0, 0, 1, 0, 0, 0, 0>, operandSegmentSizes = array<i32: 1, 1, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<8x4xf16, 1>, memref<?x?x?x?xf16>, index, index, index, index, index, index) -> ()
          "kea.permute"(%t, %u) {order = array<i64: 1, 0>} : (memref<4x8xf16, 1>, memref<8x4xf16, 1>) -> ()
          "kea.dot"(%z, %v, %t) {precision = "ieee", accumulate = true} : (memref<16x8xf32, 1>, memref<16x4xf16, 1>, memref<4x8xf16, 1>) -> ()
        }
      }
    }
    %i_25 = arith.subi %i_1, %i_14 : index
    %i_26 = arith.subi %O, %i_16 : index
    "kea.store"(%z, %y, %c0, %i_16, %c0, %c0, %i_25, %i_26, %coord_5, %coord_3_2, %coord_4_2) {steps = array<i64: 0, 0, 0, 1, 0, 0, 0, 0>, operandSegmentSizes = array<i32: 1, 1, 4, 2, 1, 0, 1, 1, 0, 0, 0, 0>} : (memref<16x8xf32, 1>, memref<?x?x?x?xf32>, index, index, index, index, index, index, memref<16x1xi64, 1>, memref<16x1xi64, 1>, memref<16x1xi64, 1>) -> ()
  }
  "kea.end"() : () -> ()
  return
}
