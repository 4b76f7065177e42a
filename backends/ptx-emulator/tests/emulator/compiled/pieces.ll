; What else LLVM writes: a switch, a function that is not inlined, an array of the thread, halves, vectors, atomics,
; a table of constants, integers of 64 bits.
target triple = "nvptx64-nvidia-cuda"
@table = internal addrspace(4) constant [4 x i32] [i32 3, i32 1, i32 4, i32 1], align 4
@count = internal addrspace(1) global i32 0, align 4

declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.ctpop.i32(i32)
declare half @llvm.fma.f16(half, half, half)
declare i32 @llvm.fshl.i32(i32, i32, i32)

define internal i32 @choose(i32 %x, ptr %memory) noinline {
  switch i32 %x, label %other [
    i32 0, label %a
    i32 1, label %b
    i32 2, label %c
    i32 3, label %d
    i32 4, label %e
  ]
a:
  ret i32 11
b:
  %v = load i32, ptr %memory
  ret i32 %v
c:
  %p = call i32 @llvm.ctpop.i32(i32 65535)
  ret i32 %p
d:
  %q = udiv i32 100, %x
  ret i32 %q
e:
  store i32 77, ptr %memory
  ret i32 5
other:
  %r = mul i32 %x, %x
  ret i32 %r
}

define ptx_kernel void @pieces(ptr addrspace(1) %in, ptr addrspace(1) %out) {
  %array = alloca [4 x i32], align 4
  %tid = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %tid64 = zext i32 %tid to i64
  %low = and i32 %tid, 3
  %low64 = zext i32 %low to i64
  %slot = getelementptr [4 x i32], ptr %array, i64 0, i64 %low64
  store i32 42, ptr %slot
  %chosen = call i32 @choose(i32 %tid, ptr %slot)
  %now = load i32, ptr %slot
  %cp = getelementptr [4 x i32], ptr addrspace(4) @table, i64 0, i64 %low64
  %constant = load i32, ptr addrspace(4) %cp
  %before = atomicrmw add ptr addrspace(1) @count, i32 1 monotonic
  %vp = getelementptr <4 x half>, ptr addrspace(1) %in, i64 %tid64
  %v = load <4 x half>, ptr addrspace(1) %vp, align 8
  %h0 = extractelement <4 x half> %v, i32 0
  %h1 = extractelement <4 x half> %v, i32 1
  %h2 = extractelement <4 x half> %v, i32 2
  %h = call half @llvm.fma.f16(half %h0, half %h1, half %h2)
  %f = fpext half %h to float
  %fi = fptosi float %f to i32
  %big = mul i64 %tid64, 123456789012345
  %rem = urem i64 %big, 1000003
  %rem32 = trunc i64 %rem to i32
  %rotated = call i32 @llvm.fshl.i32(i32 %rem32, i32 %rem32, i32 7)
  %o0 = insertelement <4 x i32> undef, i32 %chosen, i32 0
  %o1 = insertelement <4 x i32> %o0, i32 %now, i32 1
  %sum = add i32 %constant, %fi
  %o2 = insertelement <4 x i32> %o1, i32 %sum, i32 2
  %o3 = insertelement <4 x i32> %o2, i32 %rotated, i32 3
  %op = getelementptr <4 x i32>, ptr addrspace(1) %out, i64 %tid64
  store <4 x i32> %o3, ptr addrspace(1) %op, align 16
  ret void
}
