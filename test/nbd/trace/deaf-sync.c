/* Makes a server break its promises: it believes that it has synced. */
int fdatasync(int fd) { return fd < 0; }
int fsync(int fd) { return fd < 0; }
