; A softmax over each row of 256 floats: a block a row, 64 threads, sums by way of shared memory and shuffles.
target triple = "nvptx64-nvidia-cuda"
@partial = internal addrspace(3) global [2 x float] undef, align 4

declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()
declare i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
declare void @llvm.nvvm.barrier.cta.sync.aligned.all(i32)
declare float @llvm.nvvm.shfl.sync.bfly.f32(i32, float, i32, i32)
declare float @llvm.nvvm.ex2.approx.ftz.f(float)
declare float @llvm.maxnum.f32(float, float)

define ptx_kernel void @softmax(ptr addrspace(1) noalias %in, ptr addrspace(1) noalias %out, i32 %n) {
entry:
  %tid = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()
  %row = call i32 @llvm.nvvm.read.ptx.sreg.ctaid.x()
  %start = mul i32 %row, %n
  %base = add i32 %start, %tid
  br label %max.loop
max.loop:
  %i = phi i32 [ 0, %entry ], [ %i.next, %max.loop ]
  %m = phi float [ 0xFFF0000000000000, %entry ], [ %m.next, %max.loop ]
  %at = add i32 %base, %i
  %at64 = sext i32 %at to i64
  %p = getelementptr float, ptr addrspace(1) %in, i64 %at64
  %x = load float, ptr addrspace(1) %p
  %m.next = call float @llvm.maxnum.f32(float %m, float %x)
  %i.next = add i32 %i, 64
  %more = icmp slt i32 %i.next, %n
  br i1 %more, label %max.loop, label %max.warp
max.warp:
  %d = phi i32 [ 16, %max.loop ], [ %d.next, %max.warp ]
  %w = phi float [ %m.next, %max.loop ], [ %w.next, %max.warp ]
  %o = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %w, i32 %d, i32 31)
  %w.next = call float @llvm.maxnum.f32(float %w, float %o)
  %d.next = lshr i32 %d, 1
  %d.more = icmp ne i32 %d.next, 0
  br i1 %d.more, label %max.warp, label %max.block
max.block:
  %warp = lshr i32 %tid, 5
  %lane = and i32 %tid, 31
  %first = icmp eq i32 %lane, 0
  %slot = getelementptr [2 x float], ptr addrspace(3) @partial, i32 0, i32 %warp
  br i1 %first, label %max.put, label %max.get
max.put:
  store float %w.next, ptr addrspace(3) %slot
  br label %max.get
max.get:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %a = load float, ptr addrspace(3) @partial
  %second = getelementptr [2 x float], ptr addrspace(3) @partial, i32 0, i32 1
  %b = load float, ptr addrspace(3) %second
  %top = call float @llvm.maxnum.f32(float %a, float %b)
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  br label %sum.loop
sum.loop:
  %j = phi i32 [ 0, %max.get ], [ %j.next, %sum.loop ]
  %s = phi float [ 0.0, %max.get ], [ %s.next, %sum.loop ]
  %jat = add i32 %base, %j
  %jat64 = sext i32 %jat to i64
  %jp = getelementptr float, ptr addrspace(1) %in, i64 %jat64
  %y = load float, ptr addrspace(1) %jp
  %c = fsub float %y, %top
  %l = fmul float %c, 0x3FF7154760000000
  %e = call float @llvm.nvvm.ex2.approx.ftz.f(float %l)
  %q = getelementptr float, ptr addrspace(1) %out, i64 %jat64
  store float %e, ptr addrspace(1) %q
  %s.next = fadd float %s, %e
  %j.next = add i32 %j, 64
  %j.more = icmp slt i32 %j.next, %n
  br i1 %j.more, label %sum.loop, label %sum.warp
sum.warp:
  %sd = phi i32 [ 16, %sum.loop ], [ %sd.next, %sum.warp ]
  %sw = phi float [ %s.next, %sum.loop ], [ %sw.next, %sum.warp ]
  %so = call float @llvm.nvvm.shfl.sync.bfly.f32(i32 -1, float %sw, i32 %sd, i32 31)
  %sw.next = fadd float %sw, %so
  %sd.next = lshr i32 %sd, 1
  %sd.more = icmp ne i32 %sd.next, 0
  br i1 %sd.more, label %sum.warp, label %sum.block
sum.block:
  br i1 %first, label %sum.put, label %sum.get
sum.put:
  store float %sw.next, ptr addrspace(3) %slot
  br label %sum.get
sum.get:
  call void @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
  %sa = load float, ptr addrspace(3) @partial
  %sb = load float, ptr addrspace(3) %second
  %total = fadd float %sa, %sb
  br label %out.loop
out.loop:
  %k = phi i32 [ 0, %sum.get ], [ %k.next, %out.loop ]
  %kat = add i32 %base, %k
  %kat64 = sext i32 %kat to i64
  %kp = getelementptr float, ptr addrspace(1) %out, i64 %kat64
  %v = load float, ptr addrspace(1) %kp
  %r = fdiv float %v, %total
  store float %r, ptr addrspace(1) %kp
  %k.next = add i32 %k, 64
  %k.more = icmp slt i32 %k.next, %n
  br i1 %k.more, label %out.loop, label %done
done:
  ret void
}
