/*
 * What is known about the file systems behind device numbers: whether what they tell of a file
 * comes out of this machine's memory, without a server or a daemon being asked.
 */
#ifndef FU_DEVICES_H
#define FU_DEVICES_H

#include "rings/types.h"

enum fu_device { FU_DEVICE_UNKNOWN, FU_DEVICE_LOCAL, FU_DEVICE_FOREIGN };

/* Any thread. What has been learnt is forgotten after a second or so: the number may be given to
 * another file system. */
enum fu_device fu_device_kind(u32 major, u32 minor);
/* Learns of the device on which the file of `fd` lies, which may be O_PATH. May block. */
void fu_device_learn(int fd);

#endif
