# Given to make: all of KVM that counts or reads a statistic, and what copies
# them to userspace. The rest of the kernel has races of its own, which would
# take the time and hide ours.
KCSAN_SANITIZE=n
KCSAN_SANITIZE_binary_stats.o=y
KCSAN_SANITIZE_dirty_quota.o=y
KCSAN_SANITIZE_kvm_main.o=y
KCSAN_SANITIZE_cpuid.o=y
KCSAN_SANITIZE_hyperv.o=y
KCSAN_SANITIZE_mmu.o=y
KCSAN_SANITIZE_tdp_mmu.o=y
KCSAN_SANITIZE_svm.o=y
KCSAN_SANITIZE_nested.o=y
KCSAN_SANITIZE_vmx.o=y
KCSAN_SANITIZE_x86.o=y
KCSAN_SANITIZE_lapic.o=y
KCSAN_SANITIZE_iov_iter.o=y
