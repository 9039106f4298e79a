// SPDX-License-Identifier: BSD-2-Clause
// Acts on sockets. Addresses are numeric; FD is of the process that the act runs in.
#pragma once

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "core.h"

union Address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

static socklen_t address_of(const char *host, long port, union Address *address)
{
	memset(address, 0, sizeof *address);
	if (strchr(host, ':')) {
		address->v6.sin6_family = AF_INET6;
		address->v6.sin6_port = htons((uint16_t)port);
		if (inet_pton(AF_INET6, host, &address->v6.sin6_addr) != 1)
			wrong("no address: %s", host);
		return sizeof address->v6;
	}
	address->v4.sin_family = AF_INET;
	address->v4.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, host, &address->v4.sin_addr) != 1)
		wrong("no address: %s", host);
	return sizeof address->v4;
}

static long port_of(const union Address *address)
{
	if (address->any.sa_family != AF_INET && address->any.sa_family != AF_INET6)
		return 0;
	return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
}

// PREFIXhost and PREFIXport
static void reply_address(struct Act *act, char prefix, const union Address *address)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (address->any.sa_family == AF_INET)
		inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text);
	else if (address->any.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text);
	fprintf(act->out, ", \"%chost\": \"%s\", \"%cport\": %ld", prefix, text, prefix, port_of(address));
}

static void reply_ends(struct Act *act, int fd)
{
	union Address local = { .any = { 0 } }, remote = { .any = { 0 } };
	socklen_t size = sizeof local;

	getsockname(fd, &local.any, &size);
	size = sizeof remote;
	getpeername(fd, &remote.any, &size);
	reply_address(act, 'l', &local);
	reply_address(act, 'r', &remote);
}

// socket 4|6 stream|dgram|raw
static void act_socket(struct Act *act)
{
	int type = is(act, 1, "stream") ? SOCK_STREAM : is(act, 1, "dgram") ? SOCK_DGRAM : SOCK_RAW;

	CALL(act, socket(number(act, 0) == 6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, type == SOCK_RAW ? IPPROTO_TCP : 0));
}

// option FD NAME VALUE
static void act_option(struct Act *act)
{
#define OPTION(level, name) { #name, level, name }
	static const struct { const char *name; int level, option; } known[] = {
		OPTION(SOL_SOCKET, SO_REUSEADDR), OPTION(SOL_SOCKET, SO_REUSEPORT), OPTION(SOL_SOCKET, SO_RCVBUF),
		OPTION(SOL_SOCKET, SO_SNDBUF), OPTION(SOL_SOCKET, SO_LINGER), OPTION(SOL_SOCKET, SO_BINDTODEVICE),
		OPTION(SOL_SOCKET, SO_KEEPALIVE), OPTION(SOL_SOCKET, SO_MARK), OPTION(IPPROTO_IP, IP_FREEBIND),
		OPTION(IPPROTO_IP, IP_TRANSPARENT), OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), OPTION(IPPROTO_IP, IP_TTL),
		OPTION(IPPROTO_IPV6, IPV6_V6ONLY),
		OPTION(IPPROTO_TCP, TCP_SYNCNT), OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT), OPTION(IPPROTO_TCP, TCP_NODELAY),
		OPTION(IPPROTO_TCP, TCP_CORK), OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT), OPTION(IPPROTO_TCP, TCP_FASTOPEN),
		OPTION(IPPROTO_TCP, TCP_FASTOPEN_CONNECT), OPTION(IPPROTO_TCP, TCP_CONGESTION), OPTION(IPPROTO_TCP, TCP_KEEPIDLE),
		OPTION(IPPROTO_TCP, TCP_KEEPINTVL), OPTION(IPPROTO_TCP, TCP_KEEPCNT), OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP),
		OPTION(IPPROTO_TCP, TCP_MAXSEG), OPTION(IPPROTO_TCP, TCP_LINGER2),
	};
#undef OPTION
	int fd = (int)number(act, 0);

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		const int level = known[i].level, option = known[i].option;
		if (!is(act, 1, known[i].name))
			continue;
		if (level == SOL_SOCKET && option == SO_LINGER) {
			struct linger linger = { 1, (int)number(act, 2) };
			CALL(act, setsockopt(fd, level, option, &linger, sizeof linger));
		} else if ((level == SOL_SOCKET && option == SO_BINDTODEVICE) || (level == IPPROTO_TCP && option == TCP_CONGESTION)) {
			CALL(act, setsockopt(fd, level, option, word(act, 2), (socklen_t)strlen(word(act, 2)) + 1));
		} else {
			int value = (int)number(act, 2);
			CALL(act, setsockopt(fd, level, option, &value, sizeof value));
		}
		return;
	}
	wrong("no such option: %s", word(act, 1));
}

// bind FD HOST PORT
static void act_bind(struct Act *act)
{
	union Address address;
	socklen_t size = address_of(word(act, 1), number(act, 2), &address);

	CALL(act, bind((int)number(act, 0), &address.any, size));
	reply_ends(act, (int)number(act, 0));
}

// listen FD BACKLOG
static void act_listen(struct Act *act)
{
	CALL(act, listen((int)number(act, 0), (int)number(act, 1)));
	reply_ends(act, (int)number(act, 0));
}

static void non_blocking(int fd, bool is_wanted)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, is_wanted ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

static void finish(struct Act *act, int fd, int timeout)
{
	struct pollfd waits = { fd, POLLOUT, 0 };
	socklen_t size = sizeof act->error;

	if (poll(&waits, 1, timeout) == 0) {
		act->error = EINPROGRESS;
	} else {
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &act->error, &size);
		non_blocking(fd, false);
	}
	act->ret = act->error == 0 ? 0 : -1;
	act->end = now_ns();
}

// connect FD HOST PORT block|poll|start TIMEOUT_MS: end is when it stands, or failed
static void act_connect(struct Act *act)
{
	int fd = (int)number(act, 0);
	union Address address;
	socklen_t size = address_of(word(act, 1), number(act, 2), &address);

	if (!is(act, 3, "block"))
		non_blocking(fd, true);
	CALL(act, connect(fd, &address.any, size));
	if (is(act, 3, "poll") && act->error == EINPROGRESS)
		finish(act, fd, (int)number(act, 4));
	reply_ends(act, fd);
}

// finish FD TIMEOUT_MS: of a connect that was started; EINPROGRESS if it takes longer
static void act_finish(struct Act *act)
{
	act->start = now_ns();
	finish(act, (int)number(act, 0), (int)number(act, 1));
	reply_ends(act, (int)number(act, 0));
}

// accept FD accept|accept4|poll
static void act_accept(struct Act *act)
{
	int listener = (int)number(act, 0);
	union Address peer;
	socklen_t size = sizeof peer;

	if (is(act, 1, "accept")) {
		CALL(act, accept(listener, &peer.any, &size));
	} else if (is(act, 1, "accept4")) {
		CALL(act, accept4(listener, &peer.any, &size, SOCK_CLOEXEC));
	} else {
		struct pollfd waits = { listener, POLLIN, 0 };
		non_blocking(listener, true);
		CALL(act, accept4(listener, &peer.any, &size, SOCK_CLOEXEC));
		if (act->error == EAGAIN) {
			poll(&waits, 1, -1);
			CALL(act, accept4(listener, &peer.any, &size, SOCK_CLOEXEC));
		}
		non_blocking(listener, false);
	}
	reply_ends(act, (int)act->ret);
}

static int file_of(size_t size)
{
	int file = (int)MUST(memfd_create("payload", MFD_CLOEXEC));

	MUST(ftruncate(file, (off_t)size));
	return file;
}

static ssize_t send_chunk(struct Act *act, int fd, char *data, size_t size, int file, const int *tube)
{
	const char *how = word(act, 1);
	struct iovec pieces[2] = { { data, size / 2 }, { data + size / 2, size - size / 2 } };
	struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
	struct mmsghdr messages = { .msg_hdr = message };

	if (strcmp(how, "send") == 0)
		return send(fd, data, size, MSG_NOSIGNAL);
	if (strcmp(how, "sendto") == 0)
		return sendto(fd, data, size, MSG_NOSIGNAL, NULL, 0);
	if (strcmp(how, "write") == 0)
		return write(fd, data, size);
	if (strcmp(how, "writev") == 0)
		return writev(fd, pieces, 2);
	if (strcmp(how, "sendmsg") == 0)
		return sendmsg(fd, &message, MSG_NOSIGNAL);
	if (strcmp(how, "sendmmsg") == 0)
		return sendmmsg(fd, &messages, 1, MSG_NOSIGNAL) == 1 ? (ssize_t)messages.msg_len : -1;
	if (strcmp(how, "sendfile") == 0) {
		off_t from = 0;
		return sendfile(fd, file, &from, size);
	}
	if (strcmp(how, "splice") == 0) {
		loff_t from = 0;
		ssize_t filled = splice(file, &from, tube[1], NULL, size, 0), left = filled;
		while (left > 0) { // all that is in the pipe, so that the next chunk finds it empty
			ssize_t done = splice(tube[0], NULL, fd, NULL, (size_t)left, 0);
			if (done <= 0)
				return filled == left ? -1 : filled - left;
			left -= done;
		}
		return filled;
	}
	wrong("no such way to send: %s", how);
}

// send FD HOW SIZE CHUNK
static void act_send(struct Act *act)
{
	int fd = (int)number(act, 0), file, tube[2];
	size_t size = (size_t)number(act, 2), chunk = (size_t)number(act, 3), done = 0;
	char *data = calloc(1, chunk + 1);
	long calls = 0;

	memset(data, 'x', chunk);
	file = file_of(chunk);
	MUST(pipe2(tube, O_CLOEXEC));
	act->start = now_ns();
	while (done < size) {
		size_t now = size - done < chunk ? size - done : chunk;
		act->ret = send_chunk(act, fd, data, now, file, tube);
		if (act->ret < 0) {
			act->error = errno;
			break;
		}
		done += (size_t)act->ret;
		calls++;
	}
	act->end = now_ns();
	close(file);
	close(tube[0]);
	close(tube[1]);
	free(data);
	reply_number(act, "bytes", (long)done);
	reply_number(act, "calls", calls);
}

static ssize_t receive_chunk(struct Act *act, int fd, char *data, size_t size, const int *tube, long *peeked)
{
	const char *how = word(act, 1);
	struct iovec pieces[2] = { { data, size / 2 }, { data + size / 2, size - size / 2 } };
	struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
	struct mmsghdr messages = { .msg_hdr = message };

	if (strcmp(how, "recv") == 0)
		return recv(fd, data, size, 0);
	if (strcmp(how, "recvfrom") == 0)
		return recvfrom(fd, data, size, 0, NULL, NULL);
	if (strcmp(how, "read") == 0)
		return read(fd, data, size);
	if (strcmp(how, "readv") == 0)
		return readv(fd, pieces, 2);
	if (strcmp(how, "recvmsg") == 0)
		return recvmsg(fd, &message, 0);
	if (strcmp(how, "recvmmsg") == 0)
		return recvmmsg(fd, &messages, 1, 0, NULL) == 1 ? (ssize_t)messages.msg_len : -1;
	if (strcmp(how, "trunc") == 0)
		return recv(fd, data, size, MSG_TRUNC);
	if (strcmp(how, "peek") == 0) {
		ssize_t seen = recv(fd, data, size, MSG_PEEK);
		if (seen > 0)
			*peeked += seen;
		return seen <= 0 ? seen : recv(fd, data, (size_t)seen, 0);
	}
	if (strcmp(how, "splice") == 0) {
		ssize_t got = splice(fd, NULL, tube[1], NULL, size, 0);
		for (ssize_t left = got; left > 0;)
			left -= (ssize_t)MUST(read(tube[0], data, (size_t)left));
		return got;
	}
	wrong("no such way to receive: %s", how);
}

// receive FD HOW SIZE CHUNK: so many bytes, or to the end
static void act_receive(struct Act *act)
{
	int fd = (int)number(act, 0), tube[2];
	size_t size = (size_t)number(act, 2), chunk = (size_t)number(act, 3), done = 0;
	char *data = calloc(1, chunk + 1);
	long calls = 0, peeked = 0;

	MUST(pipe2(tube, O_CLOEXEC));
	act->start = now_ns();
	act->ret = 1;
	while (done < size && act->ret > 0) {
		act->ret = receive_chunk(act, fd, data, size - done < chunk ? size - done : chunk, tube, &peeked);
		if (act->ret < 0)
			act->error = errno;
		else if (act->ret > 0)
			done += (size_t)act->ret, calls++;
	}
	act->end = now_ns();
	close(tube[0]);
	close(tube[1]);
	free(data);
	reply_number(act, "bytes", (long)done);
	reply_number(act, "calls", calls);
	reply_number(act, "peeked", peeked);
	fprintf(act->out, ", \"ended\": %s", act->ret == 0 ? "true" : "false");
}

// stuff FD QUIET_MS: sends until nothing goes for so long
static void act_stuff(struct Act *act)
{
	static char data[1 << 16];
	int fd = (int)number(act, 0);
	long bytes = 0, calls = 0;
	struct pollfd waits = { fd, POLLOUT, 0 };

	act->start = now_ns();
	do {
		ssize_t done;
		while ((done = send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
			bytes += done, calls++;
		if (errno != EAGAIN) {
			act->ret = -1;
			act->error = errno;
			break;
		}
	} while (poll(&waits, 1, (int)number(act, 1)) == 1);
	act->end = now_ns();
	reply_number(act, "bytes", bytes);
	reply_number(act, "calls", calls);
}

// info FD: TCP_INFO; of a listener, unacked is the length of its queue, sacked the most
static void act_info(struct Act *act)
{
	struct tcp_info info;
	socklen_t size = sizeof info;
	int fd = (int)number(act, 0);

	memset(&info, 0, sizeof info);
	CALL(act, getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
#define FIELD(name) reply_number(act, #name, (long)info.tcpi_##name)
	FIELD(state); FIELD(ca_state); FIELD(retransmits); FIELD(probes); FIELD(backoff); FIELD(unacked); FIELD(sacked);
	FIELD(lost); FIELD(rtt); FIELD(rttvar); FIELD(rto); FIELD(snd_cwnd); FIELD(total_retrans); FIELD(bytes_acked);
	FIELD(bytes_received); FIELD(bytes_sent); FIELD(bytes_retrans); FIELD(segs_out); FIELD(segs_in); FIELD(min_rtt);
#undef FIELD
	reply_ends(act, fd);
}

// shutdown FD read|write|both
static void act_shutdown(struct Act *act)
{
	CALL(act, shutdown((int)number(act, 0), is(act, 1, "read") ? SHUT_RD : is(act, 1, "write") ? SHUT_WR : SHUT_RDWR));
}

// close FD
static void act_close(struct Act *act)
{
	CALL(act, close((int)number(act, 0)));
}

// burst HOST PORT NUMBER PAYLOAD RESET SPREAD
static void act_burst(struct Act *act)
{
	long rounds = number(act, 2), payload = number(act, 3), is_reset = number(act, 4), spread = number(act, 5);
	long made = 0, failed = 0, bytes = 0, *ports = calloc((size_t)rounds + 1, sizeof *ports);
	uint64_t (*spans)[2] = calloc((size_t)rounds + 1, sizeof *spans);
	char *data = calloc(1, (size_t)payload + 1), byte;
	struct linger linger = { 1, 0 };
	union Address to, mine;
	socklen_t size = address_of(word(act, 0), number(act, 1), &to), room;

	act->start = now_ns();
	for (long i = 0; i < rounds; i++) {
		int fd = (int)MUST(socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
		if (spread > 1)
			to.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(i % spread));
		spans[made][0] = now_ns();
		if (connect(fd, &to.any, size) != 0) {
			act->error = errno;
			failed++;
			close(fd);
			continue;
		}
		spans[made][1] = now_ns();
		room = sizeof mine;
		getsockname(fd, &mine.any, &room);
		ports[made++] = port_of(&mine);
		for (long left = payload; left > 0;) {
			ssize_t done = send(fd, data, (size_t)left, MSG_NOSIGNAL);
			if (done <= 0)
				break;
			left -= done;
			bytes += done;
		}
		if (is_reset) {
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
		} else {
			shutdown(fd, SHUT_WR);
			while (read(fd, &byte, 1) > 0)
				;
		}
		close(fd);
	}
	act->end = now_ns();
	act->ret = made;
	reply_number(act, "made", made);
	reply_number(act, "failed", failed);
	reply_number(act, "bytes", bytes);
	fprintf(act->out, ", \"ports\": [");
	for (long i = 0; i < made; i++)
		fprintf(act->out, "%s%ld", i ? ", " : "", ports[i]);
	fprintf(act->out, "], \"spans\": [");
	for (long i = 0; i < made; i++)
		fprintf(act->out, "%s[%" PRIu64 ", %" PRIu64 "]", i ? ", " : "", spans[i][0], spans[i][1]);
	fprintf(act->out, "]");
	free(ports);
	free(spans);
	free(data);
}

// serve FD NUMBER accept|accept4: of each connection reads to the end, then closes
static void act_serve(struct Act *act)
{
	static __thread char data[1 << 16];
	long rounds = number(act, 1), made = 0, bytes = 0, *ports = calloc((size_t)rounds + 1, sizeof *ports);
	int listener = (int)number(act, 0);

	act->start = now_ns();
	while (made < rounds) {
		union Address peer;
		socklen_t size = sizeof peer;
		ssize_t done;
		int fd = is(act, 2, "accept") ? accept(listener, &peer.any, &size)
			: accept4(listener, &peer.any, &size, SOCK_CLOEXEC);
		if (fd < 0) {
			act->error = errno;
			break;
		}
		ports[made++] = port_of(&peer);
		while ((done = read(fd, data, sizeof data)) > 0)
			bytes += done;
		close(fd);
	}
	act->end = now_ns();
	act->ret = made;
	reply_number(act, "made", made);
	reply_number(act, "bytes", bytes);
	fprintf(act->out, ", \"ports\": [");
	for (long i = 0; i < made; i++)
		fprintf(act->out, "%s%ld", i ? ", " : "", ports[i]);
	fprintf(act->out, "]");
	free(ports);
}

static void echo(int from, int to, const union Address *address, socklen_t size)
{
	char data[100] = "";

	MUST(sendto(from, data, sizeof data, 0, address ? &address->any : NULL, size));
	MUST(recv(to, data, sizeof data, 0));
}

// noise NUMBER: as many datagrams each way: UDP, connected UDP over IPv6, Unix stream and datagram
static void act_noise(struct Act *act)
{
	union Address v4, v6;
	socklen_t size4 = address_of("127.0.0.1", 0, &v4), size6 = address_of("::1", 0, &v6);
	int one = (int)MUST(socket(AF_INET, SOCK_DGRAM, 0)), two = (int)MUST(socket(AF_INET6, SOCK_DGRAM, 0));
	int stream[2], datagram[2];

	MUST(bind(one, &v4.any, size4));
	MUST(bind(two, &v6.any, size6));
	MUST(getsockname(one, &v4.any, &size4));
	MUST(getsockname(two, &v6.any, &size6));
	MUST(connect(two, &v6.any, size6));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram));
	act->start = now_ns();
	for (long i = 0; i < number(act, 0); i++) {
		echo(one, one, &v4, size4);
		echo(two, two, NULL, 0);
		echo(stream[0], stream[1], NULL, 0);
		echo(datagram[0], datagram[1], NULL, 0);
	}
	act->end = now_ns();
	close(one);
	close(two);
	for (int i = 0; i < 2; i++) {
		close(stream[i]);
		close(datagram[i]);
	}
	reply_address(act, 'l', &v4);
	reply_number(act, "port6", port_of(&v6));
}

static uint32_t added(uint32_t sum, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	return sum;
}

// segment HOST PORT HOST PORT FLAGS SEQUENCE PAYLOAD BAD_CHECKSUM (RFC 793)
static void act_segment(struct Act *act)
{
	static const char letters[] = "FSRPAU";
	union Address from, to;
	socklen_t size = address_of(word(act, 2), number(act, 3), &to);
	size_t payload = (size_t)number(act, 6), whole = sizeof(struct tcphdr) + payload;
	uint8_t *segment = calloc(1, whole);
	struct tcphdr *header = (struct tcphdr *)segment;
	uint32_t sum;
	int raw = (int)MUST(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP));

	address_of(word(act, 0), number(act, 1), &from);
	header->source = from.v4.sin_port;
	header->dest = to.v4.sin_port;
	header->seq = htonl((uint32_t)number(act, 5));
	header->doff = sizeof *header / 4;
	header->window = htons(1024);
	for (const char *flag = word(act, 4); *flag; flag++)
		if (strchr(letters, *flag))
			segment[13] |= (uint8_t)(1 << (strchr(letters, *flag) - letters));
	sum = added(IPPROTO_TCP + (uint32_t)whole, &from.v4.sin_addr, 4);
	sum = added(added(sum, &to.v4.sin_addr, 4), segment, whole);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	header->check = (uint16_t)(htons((uint16_t)~sum) ^ (number(act, 7) ? 0x1234 : 0));
	from.v4.sin_port = to.v4.sin_port = 0;
	MUST(bind(raw, &from.any, size));
	CALL(act, sendto(raw, segment, whole, 0, &to.any, size));
	close(raw);
	free(segment);
}

static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = (int)MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));

	MUST(ioctl(fd, SIOCSIFFLAGS, &request));
	close(fd);
}
