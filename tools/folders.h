/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of the user's that the program makes. */
#ifndef TOOLS_FOLDERS_H
#define TOOLS_FOLDERS_H

/* All folders on the way to a file. Non-zero with errno set when one cannot be made. The path is written to, and as before in the end. */
int make_folders(char *path);

/* A file's new name reaches the disk with its folder. Non-zero with errno set. The path is as before in the end. */
int sync_folder(char *path);

#endif
