func.func @main(%x: memref<?x?xf32>, %u: memref<?x?xf32>, %y: memref<?x?xf32>, %h: memref<?x?xf32>, %s: memref<?xf32>, %z: memref<?x?xf32>, %N: index, %M: index, %T: index) attributes {llvm.emit_c_interface} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  func.call @kernel.a(%x, %s, %N, %M) : (memref<?x?xf32>, memref<?xf32>, index, index) -> ()
  func.call @kernel.b(%x, %s, %y, %N, %M) : (memref<?x?xf32>, memref<?xf32>, memref<?x?xf32>, index, index) -> ()
  %u_part = "kea.view"(%u, %c0) : (memref<?x?xf32>, index) -> memref<?xf32>
  %h_part = "kea.view"(%h, %c0) : (memref<?x?xf32>, index) -> memref<?xf32>
  func.call @kernel.step(%s, %u_part, %h_part, %N) : (memref<?xf32>, memref<?xf32>, memref<?xf32>, index) -> ()
  scf.for %t = %c1 to %T step %c1 {
    %i = arith.subi %t, %c1 : index
    %h_part_1 = "kea.view"(%h, %i) : (memref<?x?xf32>, index) -> memref<?xf32>
    %u_part_1 = "kea.view"(%u, %t) : (memref<?x?xf32>, index) -> memref<?xf32>
    %h_part_2 = "kea.view"(%h, %t) : (memref<?x?xf32>, index) -> memref<?xf32>
    func.call @kernel.step(%h_part_1, %u_part_1, %h_part_2, %N) : (memref<?xf32>, memref<?xf32>, memref<?xf32>, index) -> ()
  }
  return
}

func.func @kernel.a(%x: memref<?x?xf32>, %s: memref<?xf32>, %N: index, %M: index) {
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%x) : (memref<?x?xf32>) -> ()
  "kea.bind"(%s) : (memref<?xf32>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 1 : i32, offset = 64 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 2 : i32, offset = 192 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  %v0 = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<4xf32, 1>
  %v = "kea.tile"() {buffer = 1 : i32, control = false} : () -> memref<4x8xf32, 1>
  %v1 = "kea.tile"() {buffer = 2 : i32, control = false} : () -> memref<4xf32, 1>
  %c0 = arith.constant 0 : index
  %c3 = arith.constant 3 : index
  %c4 = arith.constant 4 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %i = arith.subi %N, %c0 : index
  %i_1 = arith.addi %i, %c3 : index
  %i_2 = arith.floordivsi %i_1, %c4 : index
  %i_3 = arith.maxsi %i_2, %c0 : index
  scf.for %pid = %c0 to %i_3 step %c1 {
    "kea.instance"(%pid, %i_3) : (index, index) -> ()
    %i_4 = arith.muli %pid, %c4 : index
    %i_5 = arith.addi %c0, %i_4 : index
    "kea.fill"(%v0) {value = 0.0 : f64} : (memref<4xf32, 1>) -> ()
    scf.for %m = %c0 to %M step %c8 {
      "kea.loop_step"() : () -> ()
      %i_6 = arith.subi %N, %i_5 : index
      %i_7 = arith.subi %M, %m : index
      "kea.load"(%v, %x, %i_5, %m, %i_6, %i_7) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<4x8xf32, 1>, memref<?x?xf32>, index, index, index, index) -> ()
      "kea.reduce"(%v1, %v) {fn = "sum", dim = 1 : i32} : (memref<4xf32, 1>, memref<4x8xf32, 1>) -> ()
      "kea.binary"(%v0, %v0, %v1) {fn = "add"} : (memref<4xf32, 1>, memref<4xf32, 1>, memref<4xf32, 1>) -> ()
    }
    %i_8 = arith.subi %N, %i_5 : index
    "kea.store"(%v0, %s, %i_5, %i_8) {steps = array<i64: 1>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0>} : (memref<4xf32, 1>, memref<?xf32>, index, index) -> ()
  }
  "kea.end"() : () -> ()
  return
}

func.func @kernel.b(%x: memref<?x?xf32>, %s: memref<?xf32>, %y: memref<?x?xf32>, %N: index, %M: index) {
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%x) : (memref<?x?xf32>) -> ()
  "kea.bind"(%s) : (memref<?xf32>) -> ()
  "kea.bind"(%y) : (memref<?x?xf32>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 1 : i32, offset = 128 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 2 : i32, offset = 192 : i64, bytes = 128 : i64, copies = 1 : i32} : () -> ()
  %v = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<4x8xf32, 1>
  %q = "kea.tile"() {buffer = 1 : i32, control = false} : () -> memref<4xf32, 1>
  %e = "kea.reshape"(%q) : (memref<4xf32, 1>) -> memref<4x1xf32, 1>
  %v0 = "kea.tile"() {buffer = 2 : i32, control = false} : () -> memref<4x8xf32, 1>
  %c0 = arith.constant 0 : index
  %c3 = arith.constant 3 : index
  %c4 = arith.constant 4 : index
  %c7 = arith.constant 7 : index
  %c8 = arith.constant 8 : index
  %c1 = arith.constant 1 : index
  %i = arith.subi %N, %c0 : index
  %i_1 = arith.addi %i, %c3 : index
  %i_2 = arith.floordivsi %i_1, %c4 : index
  %i_3 = arith.maxsi %i_2, %c0 : index
  %i_4 = arith.subi %M, %c0 : index
  %i_5 = arith.addi %i_4, %c7 : index
  %i_6 = arith.floordivsi %i_5, %c8 : index
  %i_7 = arith.maxsi %i_6, %c0 : index
  %i_8 = arith.muli %i_3, %i_7 : index
  scf.for %pid = %c0 to %i_8 step %c1 {
    "kea.instance"(%pid, %i_8) : (index, index) -> ()
    %i_9 = arith.remui %pid, %i_7 : index
    %i_10 = arith.divui %pid, %i_7 : index
    %i_11 = arith.muli %i_10, %c4 : index
    %i_12 = arith.addi %c0, %i_11 : index
    %i_13 = arith.muli %i_9, %c8 : index
    %i_14 = arith.addi %c0, %i_13 : index
    %i_15 = arith.subi %N, %i_12 : index
    %i_16 = arith.subi %M, %i_14 : index
    "kea.load"(%v, %x, %i_12, %i_14, %i_15, %i_16) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<4x8xf32, 1>, memref<?x?xf32>, index, index, index, index) -> ()
    %i_17 = arith.subi %N, %i_12 : index
    "kea.load"(%q, %s, %i_12, %i_17) {steps = array<i64: 1>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<4xf32, 1>, memref<?xf32>, index, index) -> ()
    "kea.binary"(%v0, %v, %e) {fn = "sub"} : (memref<4x8xf32, 1>, memref<4x8xf32, 1>, memref<4x1xf32, 1>) -> ()
    %i_18 = arith.subi %N, %i_12 : index
    %i_19 = arith.subi %M, %i_14 : index
    "kea.store"(%v0, %y, %i_12, %i_14, %i_18, %i_19) {steps = array<i64: 1, 0, 0, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0>} : (memref<4x8xf32, 1>, memref<?x?xf32>, index, index, index, index) -> ()
  }
  "kea.end"() : () -> ()
  return
}

func.func @kernel.step(%h: memref<?xf32>, %x: memref<?xf32>, %o: memref<?xf32>, %N: index) {
  "kea.kernel"() {mapping = "dynamic"} : () -> ()
  "kea.bind"(%h) : (memref<?xf32>) -> ()
  "kea.bind"(%x) : (memref<?xf32>) -> ()
  "kea.bind"(%o) : (memref<?xf32>) -> ()
  "kea.buffer"() {id = 0 : i32, offset = 0 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 1 : i32, offset = 64 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 2 : i32, offset = 128 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  "kea.buffer"() {id = 3 : i32, offset = 192 : i64, bytes = 64 : i64, copies = 1 : i32} : () -> ()
  %a = "kea.tile"() {buffer = 0 : i32, control = false} : () -> memref<8xf32, 1>
  %b = "kea.tile"() {buffer = 1 : i32, control = false} : () -> memref<8xf32, 1>
  %v0 = "kea.tile"() {buffer = 2 : i32, control = false} : () -> memref<8xf32, 1>
  %v1 = "kea.tile"() {buffer = 3 : i32, control = false} : () -> memref<8xf32, 1>
  %c0 = arith.constant 0 : index
  %c7 = arith.constant 7 : index
  %c8 = arith.constant 8 : index
  %c1 = arith.constant 1 : index
  %i = arith.subi %N, %c0 : index
  %i_1 = arith.addi %i, %c7 : index
  %i_2 = arith.floordivsi %i_1, %c8 : index
  %i_3 = arith.maxsi %i_2, %c0 : index
  scf.for %pid = %c0 to %i_3 step %c1 {
    "kea.instance"(%pid, %i_3) : (index, index) -> ()
    %i_4 = arith.muli %pid, %c8 : index
    %i_5 = arith.addi %c0, %i_4 : index
    %i_6 = arith.subi %N, %i_5 : index
    "kea.load"(%a, %h, %i_5, %i_6) {steps = array<i64: 1>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<8xf32, 1>, memref<?xf32>, index, index) -> ()
    %i_7 = arith.subi %N, %i_5 : index
    "kea.load"(%b, %x, %i_5, %i_7) {steps = array<i64: 1>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0>, pad = 0.0 : f64} : (memref<8xf32, 1>, memref<?xf32>, index, index) -> ()
    "kea.binary"(%v0, %a, %b) {fn = "add"} : (memref<8xf32, 1>, memref<8xf32, 1>, memref<8xf32, 1>) -> ()
    "kea.unary"(%v1, %v0) {fn = "tanh"} : (memref<8xf32, 1>, memref<8xf32, 1>) -> ()
    %i_8 = arith.subi %N, %i_5 : index
    "kea.store"(%v1, %o, %i_5, %i_8) {steps = array<i64: 1>, operandSegmentSizes = array<i32: 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0>} : (memref<8xf32, 1>, memref<?xf32>, index, index) -> ()
  }
  "kea.end"() : () -> ()
  return
}
