# SPDX-License-Identifier: GPL-2.0-or-later
#
# A minimal version of the config: a PC with a display, a serial line, and one
# disk of each kind, of which IDE comes with the PC. This avoids bringing in any
# of the numerous devices that a PC may have, for binaries that are built to
# test what has nothing to do with devices.
#

CONFIG_I440FX=y
CONFIG_NVME_PCI=y
CONFIG_SERIAL_ISA=y
CONFIG_VGA_PCI=y
CONFIG_VHOST_USER_BLK=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_SCSI=y
