/*
 * The peers that a shell cannot play: freezes, lets one request go on a connection prepared ahead, thaws, and prints
 * the time from just before the first freeze to just after the last thaw in microseconds.
 *
 *   peer bare   PORT CA RUN MOUNT...     FIFREEZE and FITHAW on directories opened ahead
 *   peer SOCKET PORT CA RUN MOUNT...     guest-fsfreeze-freeze-list and -thaw by the qemu-ga that listens there
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fds[8], mounts, frozen, agent = -1;
static char freeze_list[1024] = "{\"execute\":\"guest-fsfreeze-freeze-list\",\"arguments\":{\"mountpoints\":[";

/* One command of qemu-ga: the number that it returns. */
static int rpc(const char *line) {
    char reply[4096], *found;
    size_t got = 0;
    if (write(agent, line, strlen(line)) < 0)
        return -1;
    while (got < sizeof reply - 1) {
        ssize_t n = read(agent, reply + got, sizeof reply - 1 - got);
        if (n <= 0)
            return -1;
        got += (size_t)n;
        if (reply[got - 1] == '\n')
            break;
    }
    reply[got] = 0;
    found = strstr(reply, "\"return\": ");
    if (!found)
        fputs(reply, stderr);
    return found ? atoi(found + 10) : -1;
}

static int thaw(void) {
    int thawed = 0;
    if (agent >= 0)
        return rpc("{\"execute\":\"guest-fsfreeze-thaw\"}\n");
    while (frozen > 0)
        thawed += ioctl(fds[--frozen], FITHAW, 0) == 0;
    return thawed;
}

static int freeze(void) {
    if (agent >= 0)
        return rpc(freeze_list);
    while (frozen < mounts && ioctl(fds[frozen], FIFREEZE, 0) == 0)
        frozen++;
    return frozen;
}

static void fail(const char *what) {
    fprintf(stderr, "peer: %s failed\n", what);
    thaw();
    exit(1);
}

/* Sends one action and reads its whole answer. */
static void request(SSL *tls, const char *action, const char *run) {
    char text[4096], *end, *length;
    size_t got = 0;
    int n = snprintf(text, sizeof text,
                     "POST /?RegionId=cn-hangzhou&Run=%s HTTP/1.1\r\nHost: localhost\r\nx-acs-action: %s\r\n"
                     "Content-Length: 0\r\n\r\n", run, action);
    if (SSL_write(tls, text, n) != n)
        fail("sending");
    for (;;) {
        n = SSL_read(tls, text + got, (int)(sizeof text - 1 - got));
        if (n <= 0)
            fail("reading");
        text[got += (size_t)n] = 0;
        end = strstr(text, "\r\n\r\n");
        length = strstr(text, "Content-Length: ");
        if (end && length && got >= (size_t)(end + 4 - text) + (size_t)atoi(length + 16))
            break;
    }
    if (strncmp(text, "HTTP/1.1 200", 12) != 0)
        fail(action);
}

static SSL *connect_to(int port, const char *ca) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!context || SSL_CTX_load_verify_locations(context, ca, NULL) != 1)
        fail("loading the CA");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL *tls = SSL_new(context);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 || SSL_set_fd(tls, fd) != 1 ||
        SSL_set1_host(tls, "localhost") != 1 || SSL_set_tlsext_host_name(tls, "localhost") != 1 ||
        SSL_connect(tls) != 1)
        fail("connecting");
    return tls;
}

static void connect_agent(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connecting to qemu-ga");
    agent = fd;
}

static long long micros(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int main(int argc, char **argv) {
    if (argc < 6 || argc > 13)
        return 2;
    SSL *tls = connect_to(atoi(argv[2]), argv[3]);
    for (mounts = 0; mounts < argc - 5; mounts++) {
        char *at = argv[5 + mounts];
        size_t used = strlen(freeze_list);
        fds[mounts] = open(at, O_RDONLY | O_DIRECTORY);
        if (fds[mounts] < 0 || syncfs(fds[mounts]) != 0)
            fail(at);
        snprintf(freeze_list + used, sizeof freeze_list - used, "%s\"%s\"", mounts ? "," : "", at);
    }
    strcat(freeze_list, "]}}\n");
    request(tls, "DescribeSnapshotGroups", argv[4]);
    if (strcmp(argv[1], "bare") != 0)
        connect_agent(argv[1]);

    long long start = micros();
    if (freeze() != mounts)
        fail("freezing");
    request(tls, "CreateSnapshotGroup", argv[4]);
    int thawed = thaw();
    long long end = micros();

    if (thawed != mounts)
        fail("thawing");
    printf("%lld\n", end - start);
    return 0;
}
