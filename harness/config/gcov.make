# Given to make: the objects with code of the series, on all architectures.
GCOV_PROFILE_binary_stats.o=y
GCOV_PROFILE_dirty_quota.o=y
GCOV_PROFILE_kvm_main.o=y
GCOV_PROFILE_hyperv.o=y
GCOV_PROFILE_mmu.o=y
GCOV_PROFILE_tdp_mmu.o=y
GCOV_PROFILE_svm.o=y
GCOV_PROFILE_nested.o=y
GCOV_PROFILE_vmx.o=y
GCOV_PROFILE_x86.o=y
GCOV_PROFILE_arm.o=y
GCOV_PROFILE_guest.o=y
