// SPDX-License-Identifier: GPL-2.0-only
/* What a block of kvmstats(3) takes: bytes of heap, of its file, and of a thread. */
#include <kvmstats.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/stat.h>

int main(void)
{
	struct kvmstats_block_request request;
	struct mallinfo2 before = mallinfo2(), with_block, with_thread;
	struct kvmstats_block *block;
	struct stat file;

	if (kvmstats_block_new("vda", NULL, &block) ||
	    fstat(kvmstats_device_fd(kvmstats_block_device(block)), &file))
		return 1;
	with_block = mallinfo2();
	kvmstats_block_submit(block, &request, KVMSTATS_BLOCK_READ, 1);
	kvmstats_block_complete(block, &request, 0);
	with_thread = mallinfo2();
	printf("%zu %lld %zu\n", with_block.uordblks - before.uordblks,
	       (long long)file.st_blocks * 512,
	       with_thread.uordblks - with_block.uordblks);
	kvmstats_block_free(block);
	return 0;
}
