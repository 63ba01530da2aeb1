/* Calls of the operating system that fail on demand, for files below one folder; loaded by LD_PRELOAD.

   FAULT_UNDER: the folder. FAULT_CALL: open, create, stat, read, write, sync, rename, mkdir, unlink, lock, socket or
   clock; sockets within the machine do not count. Of NFS: "renamed" renames the file and then reports the error, as for
   a request whose answer was lost; "nfs" gives a file that is deleted another name in its folder, as while it is open.
   FAULT_AFTER: how many such calls succeed first. FAULT_TIMES: how many fail then. FAULT_ERRNO: the error, or for the
   clock by how many seconds it is set back. FAULT_LOG: a file to which each such call is appended. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_long calls;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

/* Whether a call on a path is one of those that fail; sets errno. */
static int fails_at(const char *call, const char *path) {
    const char *wanted = getenv("FAULT_CALL"), *under = getenv("FAULT_UNDER"), *log = getenv("FAULT_LOG");
    if (!wanted || strcmp(wanted, call) || (path && (!under || strncmp(path, under, strlen(under))))) return 0;
    long count = atomic_fetch_add(&calls, 1) - number("FAULT_AFTER", LONG_MAX / 2);
    int fails = count >= 0 && count < number("FAULT_TIMES", 1);
    if (log && (path || fails)) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%s %s %s\n", fails ? "FAILED" : "passed", call, path ? path : "");
        int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        syscall(SYS_write, file, line, length);
        syscall(SYS_close, file);
    }
    if (fails) errno = number("FAULT_ERRNO", EIO);
    return fails;
}

static int fails_in(const char *call, int folder, const char *path) {
    char full[PATH_MAX * 2] = "", link[64];
    if (!getenv("FAULT_CALL")) return 0;
    if (path == NULL || path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(full, PATH_MAX)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, full, PATH_MAX - 1);
            if (length < 0) return 0;
            full[length] = 0;
        }
        if (path) strcat(full, "/");
    }
    if (path) strncat(full, path, PATH_MAX - 1);
    return fails_at(call, full);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FILE(call, type, name, declared, passed) \
    type name declared { return fails_in(call, file, NULL) ? -1 : REAL(name) passed; }
#define ON_PATH(call, name, declared, passed) \
    int name declared { return fails_in(call, AT_FDCWD, path) ? -1 : REAL(name) passed; }
#define OPEN(name, declared, passed, folder) \
    int name declared { \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest); \
        return fails_in(flags & O_CREAT ? "create" : "open", folder, path) ? -1 : REAL(name) passed; \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), AT_FDCWD)
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), folder)
ON_FILE("read", ssize_t, read, (int file, void *data, size_t size), (file, data, size))
ON_FILE("read", ssize_t, pread, (int file, void *data, size_t size, off_t at), (file, data, size, at))
ON_FILE("read", ssize_t, pread64, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE("write", ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
ON_FILE("write", ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
ON_FILE("write", ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
ON_FILE("sync", int, fsync, (int file), (file))
ON_FILE("sync", int, fdatasync, (int file), (file))
int flock(int file, int operation) {
    return !(operation & LOCK_UN) && fails_in("lock", file, NULL) ? -1 : REAL(flock)(file, operation);
}
ON_PATH("mkdir", mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH("unlink", rmdir, (const char *path), (path))
ON_PATH("stat", stat, (const char *path, struct stat *status), (path, status))
ON_PATH("stat", lstat, (const char *path, struct stat *status), (path, status))
int fstatat(int folder, const char *path, struct stat *status, int flags) {
    return fails_in("stat", folder, path) ? -1 : REAL(fstatat)(folder, path, status, flags);
}

int rename(const char *from, const char *path) {
    if (fails_in("rename", AT_FDCWD, path)) return -1;
    int result = REAL(rename)(from, path);
    return result == 0 && fails_in("renamed", AT_FDCWD, path) ? -1 : result;
}

/* Deletes a file, or renames it as NFS does with one that is open. */
int unlinkat(int folder, const char *path, int flags) {
    if (fails_in("unlink", folder, path)) return -1;
    if (!(flags & AT_REMOVEDIR) && fails_in("nfs", folder, path)) {
        const char *name = strrchr(path, '/');
        char other[PATH_MAX];
        snprintf(other, sizeof other, "%.*s.nfs%016lx%08lx", name ? (int)(name - path) + 1 : 0, path, (long)getpid(),
                 (long)calls);
        return renameat(folder, path, folder, other);
    }
    return REAL(unlinkat)(folder, path, flags);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }

static int is_lock(int command) { return command == F_SETLK || command == F_SETLKW; }
#define CONTROL(name) \
    int name(int file, int command, ...) { \
        va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest); \
        return is_lock(command) && fails_in("lock", file, NULL) ? -1 : REAL(name)(file, command, argument); \
    }
CONTROL(fcntl)
CONTROL(fcntl64)

int socket(int family, int type, int protocol) {
    if (family != AF_UNIX && fails_at("socket", NULL)) return -1;
    return REAL(socket)(family, type, protocol);
}

static long back(void) {
    int error = errno;
    long seconds = fails_at("clock", NULL) ? errno : 0;
    errno = error;
    return seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = REAL(clock_gettime)(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec -= back();
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    int result = REAL(gettimeofday)(now, zone);
    now->tv_sec -= back();
    return result;
}
time_t time(time_t *now) {
    time_t result = REAL(time)(NULL) - back();
    if (now) *now = result;
    return result;
}
