// SPDX-License-Identifier: GPL-2.0-only
/* make_seeds DIR: a small image and a message, for the fuzzers to start from */
#include <stdio.h>
#include <string.h>

#include "image.h"

static int write_seed(const char *dir, const char *name, const void *bytes,
		      size_t size_bytes)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "we");
	if (!file || fwrite(bytes, 1, size_bytes, file) != size_bytes) {
		perror(path);
		return 1;
	}
	return fclose(file) != 0;
}

int main(int argc, char **argv)
{
	struct wire_message message = { .num_fds = 5, .name = "n",
					.uuid = "\303\274" };
	char bytes[WIRE_MESSAGE_BYTES];
	struct image image, published, vcpus;

	if (argc != 2)
		return 2;
	image_fill(&image);
	image_fill_vcpus(&vcpus);
	published = image;
	strcpy((char *)published.bytes + IMAGE_ID_AT, "kvm-77/block:a");
	return write_seed(argv[1], "image/small", image.bytes,
			  image.size_bytes) ||
	       write_seed(argv[1], "image/vcpus", vcpus.bytes,
			  vcpus.size_bytes) ||
	       write_seed(argv[1], "published/small", published.bytes,
			  published.size_bytes) ||
	       write_seed(argv[1], "message/small", bytes,
			  wire_encode(&message, bytes));
}
