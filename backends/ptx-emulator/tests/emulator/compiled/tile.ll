; A tile by a tensor copy, as LLVM's intrinsics say it: the map is a parameter of the kernel, one thread issues, all wait.
target triple = "nvptx64-nvidia-cuda"
@tile = internal addrspace(3) global [256 x float] undef, align 1024
@full = internal addrspace(3) global i64 undef, align 8

declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)
declare void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3), i32)
declare void @llvm.nvvm.fence.mbarrier_init.release.cluster()
declare ptr addrspace(7) @llvm.nvvm.mapa.shared.cluster(ptr addrspace(3), i32)
declare void @llvm.nvvm.cp.async.bulk.tensor.g2s.tile.2d(ptr addrspace(7), ptr addrspace(3), ptr, i32, i32, i16, i64, i1, i1, i32)

define ptx_kernel void @tile_kernel(ptr byval([128 x i8]) align 64 "nvvm.grid_constant" %map, ptr addrspace(1) %out) {
entry:
  %tid = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %first = icmp eq i32 %tid, 0
  br i1 %first, label %init, label %ready
init:
  call void @llvm.nvvm.mbarrier.init.shared(ptr addrspace(3) @full, i32 1)
  call void @llvm.nvvm.fence.mbarrier_init.release.cluster()
  br label %ready
ready:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  br i1 %first, label %issue, label %wait
issue:
  call void asm sideeffect "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], 1024;", "r"(ptr addrspace(3) @full)
  %to = call ptr addrspace(7) @llvm.nvvm.mapa.shared.cluster(ptr addrspace(3) @tile, i32 0)
  call void @llvm.nvvm.cp.async.bulk.tensor.g2s.tile.2d(ptr addrspace(7) %to, ptr addrspace(3) @full, ptr %map, i32 0, i32 1, i16 0, i64 0, i1 false, i1 false, i32 0)
  br label %wait
wait:
  %done = call i32 asm sideeffect "{\0A .reg .pred p;\0A mbarrier.try_wait.parity.shared::cta.b64 p, [$1], 0;\0A selp.b32 $0, 1, 0, p;\0A}", "=r,r"(ptr addrspace(3) @full)
  %again = icmp eq i32 %done, 0
  br i1 %again, label %wait, label %read
read:
  %tid64 = zext i32 %tid to i64
  %p = getelementptr [256 x float], ptr addrspace(3) @tile, i64 0, i64 %tid64
  %v = load float, ptr addrspace(3) %p
  %q = getelementptr float, ptr addrspace(1) %out, i64 %tid64
  store float %v, ptr addrspace(1) %q
  ret void
}
