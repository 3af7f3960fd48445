/* Gives a pod its own address: loaded into every program of a pod that uses the C library (LD_PRELOAD).
 *
 * Pods share this machine's network, each with an address of its own, named by KAJITORI_POD_IP: in 127.0.0.0/8, or
 * in a range that a node which joined another cluster was given, whose addresses are all this machine's.
 *  - bind() to all addresses or to localhost binds the pod's address, so that every pod may use port 8000.
 *    Sockets for IPv6 alone, which have no such range of addresses, get one that nothing reaches.
 *  - connect() to localhost goes to the pod's address if a socket of the pod holds that port there, else to the
 *    machine, where the API server is.
 *  - connect() to any loopback address, and from a pod of another range to any address of this machine, comes from
 *    the pod's address, so that the other side sees who it is. Connections that leave the machine are left alone.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

typedef int (*socket_call)(int, const struct sockaddr *, socklen_t);
static socket_call real_bind, real_connect;
static in_addr_t pod_address; /* network order; 0: not in a pod */

__attribute__((constructor)) static void prepare(void) {
    real_bind = (socket_call)dlsym(RTLD_NEXT, "bind");
    real_connect = (socket_call)dlsym(RTLD_NEXT, "connect");
    const char *text = getenv("KAJITORI_POD_IP");
    struct in_addr parsed;
    if (text && inet_pton(AF_INET, text, &parsed) == 1) pod_address = parsed.s_addr;
}

static int is_machine_wide(in_addr_t address) {
    return address == htonl(INADDR_ANY) || address == htonl(INADDR_LOOPBACK);
}

/* The IPv4 address inside an IPv6 one that means all addresses, localhost or a mapped address; 0 if it is another. */
static int to_ipv4(const struct in6_addr *address, in_addr_t *result) {
    if (IN6_IS_ADDR_UNSPECIFIED(address)) *result = htonl(INADDR_ANY);
    else if (IN6_IS_ADDR_LOOPBACK(address)) *result = htonl(INADDR_LOOPBACK);
    else if (IN6_IS_ADDR_V4MAPPED(address)) memcpy(result, &address->s6_addr[12], 4);
    else return 0;
    return 1;
}

static void map_pod_address(struct in6_addr *address) {
    memset(address, 0, sizeof *address);
    address->s6_addr[10] = address->s6_addr[11] = 0xff;
    memcpy(&address->s6_addr[12], &pod_address, 4);
}

static int bind_ipv6(int descriptor, const struct sockaddr_in6 *given) {
    struct sockaddr_in6 changed = *given;
    int alone = 0, no = 0, yes = 1;
    socklen_t size = sizeof alone;
    getsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &alone, &size);
    if (!alone || IN6_IS_ADDR_LOOPBACK(&given->sin6_addr)) {
        if (!alone || setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) == 0) {
            map_pod_address(&changed.sin6_addr);
            return real_bind(descriptor, (struct sockaddr *)&changed, sizeof changed);
        }
    }
    static const unsigned char prefix[12] = {0xfd, 0x6b, 0x61, 0x6a, 0x69};
    memcpy(&changed.sin6_addr.s6_addr[0], prefix, 12);
    memcpy(&changed.sin6_addr.s6_addr[12], &pod_address, 4);
    setsockopt(descriptor, IPPROTO_IPV6, IPV6_FREEBIND, &yes, sizeof yes);
    return real_bind(descriptor, (struct sockaddr *)&changed, sizeof changed);
}

/* A pod in Kubernetes has a network of its own, which is new: past connections of another pod that had this address
 * before never keep it from a port. */
static void forget_past_connections(int descriptor, const struct sockaddr *address) {
    in_port_t port = address->sa_family == AF_INET    ? ((const struct sockaddr_in *)address)->sin_port
                     : address->sa_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                                      : 0;
    int type = 0, yes = 1, saved = errno;
    socklen_t size = sizeof type;
    if (port && getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM)
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    errno = saved;
}

int bind(int descriptor, const struct sockaddr *address, socklen_t length) {
    in_addr_t wanted;
    if (pod_address && address && length >= sizeof(struct sockaddr_in)) forget_past_connections(descriptor, address);
    if (pod_address && address && address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in changed = *(const struct sockaddr_in *)address;
        if (is_machine_wide(changed.sin_addr.s_addr)) {
            changed.sin_addr.s_addr = pod_address;
            return real_bind(descriptor, (struct sockaddr *)&changed, sizeof changed);
        }
    } else if (pod_address && address && address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        const struct sockaddr_in6 *given = (const struct sockaddr_in6 *)address;
        if (to_ipv4(&given->sin6_addr, &wanted) && is_machine_wide(wanted)) return bind_ipv6(descriptor, given);
    }
    return real_bind(descriptor, address, length);
}

/* Whether a socket of this type holds the port on the pod's address: then binding it again is refused. */
static int pod_holds(int descriptor, in_port_t port) {
    int type = SOCK_STREAM, saved = errno;
    socklen_t size = sizeof type;
    getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &size);
    int trial = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    if (trial < 0) return 0;
    int yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = pod_address};
    /* Past connections do not count, only a socket that listens. */
    if (type == SOCK_STREAM) setsockopt(trial, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    int held = real_bind(trial, (struct sockaddr *)&address, sizeof address) < 0 && errno == EADDRINUSE;
    close(trial);
    errno = saved;
    return held;
}

static int is_loopback(in_addr_t address) { return (ntohl(address) >> 24) == 127; }

/* Whether the address is this machine's own: it can be bound. */
static int is_own(in_addr_t wanted) {
    if (is_loopback(wanted)) return 1;
    if (is_loopback(pod_address)) return 0;
    int saved = errno, trial = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (trial < 0) return 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = wanted};
    int own = real_bind(trial, (struct sockaddr *)&address, sizeof address) == 0;
    close(trial);
    errno = saved;
    return own;
}

static void come_from_pod(int descriptor) {
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;
    int saved = errno, yes = 1, type = 0;
    socklen_t type_size = sizeof type;
    getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &type_size);
    /* Datagram sockets may be connected again, to somewhere that this source cannot reach. */
    if (type == SOCK_STREAM && getsockname(descriptor, (struct sockaddr *)&own, &size) == 0) {
        setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (own.ss_family == AF_INET && ((struct sockaddr_in *)&own)->sin_port == 0) {
            struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = pod_address};
            real_bind(descriptor, (struct sockaddr *)&source, sizeof source);
        } else if (own.ss_family == AF_INET6 && ((struct sockaddr_in6 *)&own)->sin6_port == 0) {
            struct sockaddr_in6 source = {.sin6_family = AF_INET6};
            map_pod_address(&source.sin6_addr);
            real_bind(descriptor, (struct sockaddr *)&source, sizeof source);
        }
    }
    errno = saved;
}

int connect(int descriptor, const struct sockaddr *address, socklen_t length) {
    if (!pod_address || !address) return real_connect(descriptor, address, length);
    if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
        struct sockaddr_in changed = *(const struct sockaddr_in *)address;
        if (is_machine_wide(changed.sin_addr.s_addr) && pod_holds(descriptor, changed.sin_port))
            changed.sin_addr.s_addr = pod_address;
        if (is_own(changed.sin_addr.s_addr)) come_from_pod(descriptor);
        return real_connect(descriptor, (struct sockaddr *)&changed, sizeof changed);
    }
    if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
        struct sockaddr_in6 changed = *(const struct sockaddr_in6 *)address;
        in_addr_t wanted;
        if (to_ipv4(&changed.sin6_addr, &wanted)) {
            int no = 0;
            if (is_machine_wide(wanted) && pod_holds(descriptor, changed.sin6_port) &&
                setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) == 0) {
                map_pod_address(&changed.sin6_addr);
                wanted = pod_address;
            }
            if (IN6_IS_ADDR_V4MAPPED(&changed.sin6_addr) && is_own(wanted)) come_from_pod(descriptor);
        }
        return real_connect(descriptor, (struct sockaddr *)&changed, sizeof changed);
    }
    return real_connect(descriptor, address, length);
}
