func.func @main(%x: memref<?x?xf8E4M3FN>, %y: memref<?x?xf8E4M3FN>, %z: memref<?x?xf32>, %c: memref<?x?xf8E5M2>, %M: index, %N: index, %K: index) attributes {llvm.emit_c_interface} {
  func.call @kernel.k(%x, %y, %z, %c, %M, %N, %K) : (memref<?x?xf8E4M3FN>, memref<?x?xf8E4M3FN>, memref<?x?xf32>, memref<?x?xf8E5M2>, index, index, index) -> ()
  return
}

func.func @kernel.k(%x: memref<?x?xf8E4M3FN>, %y: memref<?x?xf8E4M3FN>, %z: memref<?x?xf32>, %c: memref<?x?xf8E5M2>, %M: index, %N: index, %K: index) {
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%x) : (memref<?x?xf8E4M3FN>) -> ()
  "kea.bind"(%y) : (memref<?x?xf8E4M3FN>) -> ()
  "kea.bind"(%z) : (memref<?x?xf32>) -> ()
  "kea.bind"(%c) : (memref<?x?xf8E5M2>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 1024 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 1 : i32, offset = 1024 : i64, bytes = 256 : i64, copies = 3 : i32} : () -> ()
  "kea.buffer"() {id = 2 : i32, offset = 1792 : i64, bytes = 256 : i64, copies = 3 : i32} : () -> ()
  "kea.buffer"() {id = 3 : i32, offset = 2560 : i64, bytes = 256 : i64, copies = 1 : i32} : () -> ()
  %v0 = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<16x16xf32, 1>
  %p = "kea.tile"() {buffer = 1 : i32, control = false} : () -> memref<16x16xf8E4M3FN, 1>
  %q = "kea.tile"() {buffer = 2 : i32, control = false} : () -> memref<16x16xf8E4M3FN, 1>
  %v2 = "kea.tile"() {buffer = 3 : i32, control = false} : () -> memref<16x16xf8E5M2, 1>
  %c0 = arith.constant 0 : index
  %c15 = arith.constant 15 : index
  %c16 = arith.constant 16 : index
  %c1 = arith.constant 1 : index
  %i = arith.subi %M, %c0 : index
  %i_1 = arith.addi %i, %c15 : index
  %i_2 = arith.floordivsi %i_1, %c16 : index
  %i_3 = arith.maxsi %i_2, %c0 : index
  %i_4 = arith.subi %N, %c0 : index
  %i_5 = arith.addi %i_4, %c15 : index
  %i_6 = arith.floordivsi %i_5, %c16 : index
  %i_7 = arith.maxsi %i_6, %c0 : index
  %i_8 = arith.muli %i_3, %i_7 : index
  scf.for %pid = %c0 to %i_8 step %c1 {
    "kea.instance"(%pid, %i_8) : (index, index) -> ()
    %i_9 = arith.remui %pid, %i_7 : index
    %i_10 = arith.divui %pid, %i_7 : index
    %i_11 = arith.muli %i_10, %c16 : index
    %i_12 = arith.addi %c0, %i_11 : index
    %i_13 = arith.muli %i_9, %c16 : index
    %i_14 = arith.addi %c0, %i_13 : index
    "kea.fill"(%v0) {value = 0.0 : f64} : (memref<16x16xf32, 1>) -> ()
    scf.for %k = %c0 to %K step %c16 {
      "kea.loop_step"() : () -> ()
      %i_15 = arith.subi %M, %i_12 : index
      %i_16 = arith.subi %K, %k : index
      "kea.load"(%p, %x, %i_12, %k, %i_15, %i_16) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<16x16xf8E4M3FN, 1>, memref<?x?xf8E4M3FN>, index, index, index, index) -> ()
      %i_17 = arith.subi %K, %k : index
      %i_18 = arith.subi %N, %i_14 : index
      "kea.load"(%q, %y, %k, %i_14, %i_17, %i_18) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<16x16xf8E4M3FN, 1>, memref<?x?xf8E4M3FN>, index, index, index, index) -> ()
      "kea.dot"(%v0, %p, %q) {precision = "ieee", accumulate = true} : (memref<16x16xf32, 1>, memref<16x16xf8E4M3FN, 1>, memref<16x16xf8E4M3FN, 1>) -> ()
    }
    %i_19 = arith.subi %M, %i_12 : index
    %i_20 = arith.subi %N, %i_14 : index
    "kea.store"(%v0, %z, %i_12, %i_14, %i_19, %i_20) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>} : (memref<16x16xf32, 1>, memref<?x?xf32>, index, index, index, index) -> ()
    "kea.cast"(%v2, %v0) : (memref<16x16xf8E5M2, 1>, memref<16x16xf32, 1>) -> ()
    %i_21 = arith.subi %M, %i_12 : index
    %i_22 = arith.subi %N, %i_14 : index
    "kea.store"(%v2, %c, %i_12, %i_14, %i_21, %i_22) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>} : (memref<16x16xf8E5M2, 1>, memref<?x?xf8E5M2>, index, index, index, index) -> ()
  }
  "kea.end"() : () -> ()
  return
}
