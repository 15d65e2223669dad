/* load: the clients of the benchmark; they check every byte they get (one thread, epoll).
 *
 *   load -p PORT -q REQUEST -x ANSWER -c CLIENTS [-w WARM] [-d SECONDS] [-l LIMIT] [-1] [-k] [-u SECONDS]
 *        [-f FILLER -n TIMES -i OFFSET] [PID ...]
 *
 *   -q, -x   files: one whole request as it is sent, and the body (without its chunking) that must come back; a zero
 *            byte in it stands for any digit
 *   -c       clients, each with a connection of its own; all of them connect at the start
 *   -w, -d   the measured window: it opens after WARM seconds and stays open for SECONDS
 *   -l       seconds until an answer that is still missing counts as an error
 *   -1       one request per client; otherwise each sends its next request as soon as it has an answer, until the
 *            window closes
 *   -u       the window closes so many seconds after the last answer instead, if that is earlier
 *   -f       file that goes TIMES times into the request, at OFFSET: a large upload needs no large file
 *   -k       hold: say `open` on standard output once every client has its first event, stay until standard input
 *            ends, then leave in the middle of the answers
 *   PID      processes whose CPU time inside the window is reported, in this order
 *
 * Prints one line of JSON. Answers that end inside the window give the latencies; CPU is read at the very moments the
 * window opens and closes, so connecting, warming up and draining cost the system under test nothing here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 8 * 1024, READ_MAX = 256 * 1024, PIDS_MAX = 64 };
enum step { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

typedef struct {
  int fd; /* -1: not connected */
  bool busy, watching_writes, closes, opened;
  size_t sent, head_length, seen; /* bytes of the request, of the answer's head, of its body */
  enum step step;
  bool size_ended, line_used; /* inside a chunk's size line, its digits are over; the trailer line is not empty */
  unsigned long left;         /* of the body, or of this chunk */
  int64_t began, first;       /* ns: request begun, first event complete */
  char head[HEAD_MAX + 1];
} client;

typedef struct {
  int64_t *ns;
  size_t length, room;
} samples;

typedef struct {
  int64_t at;
  int64_t cpu[PIDS_MAX];
  uint64_t finished, events;
} snapshot;

static int epoll_fd, port;
static bool once, hold, stopped;
static int64_t linger = -1, last_answer; /* ns; negative: the window closes at its time alone */
static char *request, *filler, *expected;
static size_t written_length; /* of the file REQUEST */
static size_t filler_length, filler_at, filler_end, request_length, expected_length;
static uint32_t *events_until; /* [n]: content events that are complete within the first n bytes of the answer */
static client *clients;
static long client_count, active, opened, reconnects;
static uint64_t finished, events, errors;
static char first_error[160];
static samples latencies, firsts;
static clockid_t clocks[PIDS_MAX];
static int clock_count;
static enum { WARMING, OPEN, CLOSED } window;
static snapshot opening, closing;

static int64_t now_ns(clockid_t clock) {
  struct timespec t;
  return clock_gettime(clock, &t) ? 0 : t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
  perror(what);
  exit(2);
}

static char *read_file(const char *path, size_t *length) {
  FILE *f = fopen(path, "rb");
  if (!f || fseek(f, 0, SEEK_END)) die(path);
  *length = (size_t)ftell(f);
  rewind(f);
  char *bytes = malloc(*length + 1);
  if (!bytes || fread(bytes, 1, *length, f) != *length) die(path);
  fclose(f);
  return bytes;
}

/* An event ends with an empty line; the terminal marker is not content. */
static void mark_events(void) {
  static const char marker[] = "data: [DONE]\n\n";
  size_t end = expected_length;
  if (end >= sizeof marker - 1 && !memcmp(expected + end - (sizeof marker - 1), marker, sizeof marker - 1))
    end -= sizeof marker - 1;
  events_until = calloc(expected_length + 1, sizeof *events_until);
  if (!events_until) die("calloc");
  for (size_t i = 1; i <= expected_length; i++) {
    bool ends = i >= 2 && i <= end && expected[i - 1] == '\n' && expected[i - 2] == '\n';
    events_until[i] = events_until[i - 1] + ends;
  }
}

static void add_sample(samples *s, int64_t ns) {
  if (s->length == s->room) {
    s->room = s->room ? s->room * 2 : 1 << 14;
    s->ns = realloc(s->ns, s->room * sizeof *s->ns);
    if (!s->ns) die("realloc");
  }
  s->ns[s->length++] = ns;
}

static void hang_up(client *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
}

__attribute__((format(printf, 2, 3))) static void fail(client *c, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  if (!errors++) vsnprintf(first_error, sizeof first_error, format, arguments);
  va_end(arguments);
  hang_up(c);
  c->busy = false;
  active--;
}

/* Returns what stands at one place of the request, as far as it lies together in memory. */
static const char *piece_at(size_t at, size_t *length) {
  if (at >= filler_end) {
    *length = request_length - at;
    return request + at - (filler_end - filler_at);
  }
  if (at < filler_at) {
    *length = filler_at - at;
    return request + at;
  }
  size_t offset = (at - filler_at) % filler_length;
  *length = filler_length - offset;
  return filler + offset;
}

static void send_more(client *c) {
  while (c->sent < request_length) {
    size_t length;
    const char *piece = piece_at(c->sent, &length);
    ssize_t k = write(c->fd, piece, length);
    if (k < 0 && errno != EAGAIN) {
      fail(c, "writing: %s", strerror(errno));
      return;
    }
    if (k < 0) break;
    c->sent += (size_t)k;
  }
  bool unsent = c->sent < request_length;
  if (unsent == c->watching_writes) return;
  c->watching_writes = unsent;
  struct epoll_event e = {.events = EPOLLIN | (unsent ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void connect_client(client *c) {
  int one = 1;
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) {
    fail(c, "socket: %s", strerror(errno));
    return;
  }
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(c->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) {
    fail(c, "connecting: %s", strerror(errno));
    return;
  }
  c->watching_writes = true; /* writable means connected */
  struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void begin(client *c) {
  c->busy = true;
  active++;
  c->began = now_ns(CLOCK_MONOTONIC);
  c->first = 0;
  c->sent = c->head_length = c->seen = 0;
  c->step = HEAD;
  c->closes = false;
  if (c->fd >= 0) send_more(c);
  else connect_client(c);
}

static void finish(client *c) {
  if (c->seen != expected_length) {
    fail(c, "the answer ended after %zu of %zu bytes", c->seen, expected_length);
    return;
  }
  finished++;
  last_answer = now_ns(CLOCK_MONOTONIC);
  if (window == OPEN) add_sample(&latencies, last_answer - c->began);
  c->busy = false;
  active--;
  if (c->closes) {
    hang_up(c);
    reconnects++;
  }
  if (!once && !hold && window != CLOSED) begin(c);
}

static bool is_expected(const char *expected_here, const char *p, size_t n) {
  if (!memcmp(expected_here, p, n)) return true;
  for (size_t i = 0; i < n; i++)
    if (expected_here[i] ? expected_here[i] != p[i] : !isdigit((unsigned char)p[i])) return false;
  return true;
}

/* Body bytes. Returns false if they are not those of the upstream. */
static bool take(client *c, const char *p, size_t n) {
  if (n > expected_length - c->seen || !is_expected(expected + c->seen, p, n)) {
    fail(c, "the answer differs after byte %zu: %.60s", c->seen, n < 60 ? "(short)" : p);
    return false;
  }
  uint32_t fresh = events_until[c->seen + n] - events_until[c->seen];
  c->seen += n;
  events += fresh;
  if (fresh && !c->first) {
    c->first = now_ns(CLOCK_MONOTONIC);
    add_sample(&firsts, c->first - c->began);
    if (!c->opened) {
      c->opened = true;
      opened++;
    }
  }
  return true;
}

static const char *header(const client *c, const char *name) {
  size_t n = strlen(name);
  for (const char *line = strchr(c->head, '\n'); line; line = strchr(line, '\n')) {
    line++;
    if (!strncasecmp(line, name, n) && line[n] == ':') return line + n + 1 + strspn(line + n + 1, " ");
  }
  return NULL;
}

/* Returns how many of the bytes belong to the head; the step says whether it is complete. */
static size_t take_head(client *c, const char *p, size_t n) {
  size_t before = c->head_length, room = HEAD_MAX - before, k = n < room ? n : room;
  memcpy(c->head + before, p, k);
  c->head_length += k;
  c->head[c->head_length] = 0;
  char *end = memmem(c->head, c->head_length, "\r\n\r\n", 4);
  if (!end) {
    if (c->head_length == HEAD_MAX) fail(c, "a head of more than %d bytes", HEAD_MAX);
    return k;
  }
  end[2] = 0;
  const char *value = NULL;
  int status = atoi(c->head + strcspn(c->head, " "));
  if (status != 200) fail(c, "status %d: %.100s", status, p + (end + 4 - c->head) - before);
  else if ((value = header(c, "transfer-encoding")) && !strncasecmp(value, "chunked", 7)) c->step = CHUNK_SIZE;
  else if ((value = header(c, "content-length"))) c->step = LENGTH;
  else fail(c, "an answer without a length");
  c->left = c->step == LENGTH ? strtoul(value, NULL, 10) : 0;
  c->size_ended = false;
  value = header(c, "connection");
  c->closes = value && !strncasecmp(value, "close", 5);
  return (size_t)(end + 4 - c->head) - before;
}

static size_t take_body(client *c, const char *p, size_t n) {
  size_t k = n < c->left ? n : c->left;
  if (!take(c, p, k)) return n;
  c->left -= k;
  if (c->left) return k;
  if (c->step == LENGTH) finish(c);
  else c->step = CHUNK_END;
  return k;
}

/* One byte of what stands between the chunks. */
static void take_framing(client *c, char byte) {
  if (c->step == CHUNK_END) {
    if (byte == '\n') c->step = CHUNK_SIZE;
  } else if (c->step == CHUNK_SIZE) {
    if (byte == '\n') {
      c->step = c->left ? CHUNK : TRAILER;
      c->size_ended = c->line_used = false;
    } else if (!c->size_ended && isxdigit((unsigned char)byte)) {
      c->left = c->left * 16 + (unsigned long)(byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10);
    } else {
      c->size_ended = true;
    }
  } else if (byte != '\n') {
    c->line_used |= byte != '\r';
  } else if (c->line_used) {
    c->line_used = false;
  } else {
    finish(c);
  }
}

static void receive(client *c) {
  static char buffer[READ_MAX + 1];
  ssize_t k = read(c->fd, buffer, READ_MAX);
  if (k < 0 && errno == EAGAIN) return;
  if (k <= 0) {
    if (c->busy) fail(c, "the connection ended in step %d of an answer", c->step);
    else hang_up(c);
    return;
  }
  buffer[k] = 0;
  if (!c->busy) {
    c->busy = true, active++;
    fail(c, "bytes after the answer");
    return;
  }
  for (const char *p = buffer, *end = buffer + k; p < end && c->busy;) {
    if (c->step == HEAD) p += take_head(c, p, (size_t)(end - p));
    else if (c->step == LENGTH || c->step == CHUNK) p += take_body(c, p, (size_t)(end - p));
    else take_framing(c, *p++);
  }
}

static void take_snapshot(snapshot *s) {
  s->at = now_ns(CLOCK_MONOTONIC);
  for (int i = 0; i < clock_count; i++) s->cpu[i] = now_ns(clocks[i]);
  s->finished = finished;
  s->events = events;
}

static void run(int64_t opens, int64_t closes, int64_t limit) {
  struct epoll_event ready[256];
  bool said = false;
  while (active || hold || (once && window != CLOSED)) {
    int64_t now = now_ns(CLOCK_MONOTONIC);
    if (window == WARMING && now >= opens) take_snapshot(&opening), window = OPEN;
    if (window == OPEN && linger >= 0 && !active && last_answer + linger < closes) closes = last_answer + linger;
    if (window == OPEN && now >= closes) take_snapshot(&closing), window = CLOSED;
    if (stopped || now >= limit) break;
    if (hold && errors) break;
    if (hold && !said && opened == client_count) said = true, puts("open"), fflush(stdout);
    int64_t next = window == WARMING ? opens : window == OPEN ? closes : limit;
    int64_t wait_ms = (next - now + 999999) / 1000000;
    int n = epoll_wait(epoll_fd, ready, 256, wait_ms > 50 ? 50 : (int)wait_ms);
    for (int i = 0; i < n; i++) {
      client *c = ready[i].data.ptr;
      if (!c) {
        stopped = true;
        continue;
      }
      if (c->fd >= 0 && c->busy && ready[i].events & EPOLLOUT) send_more(c);
      if (c->fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
    }
  }
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static double quantile_us(const samples *s, double q) {
  return s->length ? (double)s->ns[(size_t)(q * (double)(s->length - 1) + 0.5)] / 1000 : 0;
}

static void report(void) {
  if (latencies.length) qsort(latencies.ns, latencies.length, sizeof *latencies.ns, by_value);
  if (firsts.length) qsort(firsts.ns, firsts.length, sizeof *firsts.ns, by_value);
  for (char *p = first_error; *p; p++)
    if (*p == '"' || *p == '\\' || *p < ' ' || *p > '~') *p = '\'';
  printf("{\"seconds\": %.6f, \"requests\": %lu, \"events\": %lu, \"finished\": %lu, \"opened\": %ld, \"errors\": %lu, "
         "\"error\": \"%s\", \"reconnects\": %ld, \"p50_us\": %.2f, \"p99_us\": %.2f, \"first_p50_us\": %.2f, "
         "\"first_p99_us\": %.2f, \"cpu_s\": [",
         (double)(closing.at - opening.at) / 1e9, closing.finished - opening.finished, closing.events - opening.events,
         finished, opened, errors, first_error, reconnects, quantile_us(&latencies, 0.5), quantile_us(&latencies, 0.99),
         quantile_us(&firsts, 0.5), quantile_us(&firsts, 0.99));
  for (int i = 0; i < clock_count; i++)
    printf("%s%.9f", i ? ", " : "", (double)(closing.cpu[i] - opening.cpu[i]) / 1e9);
  puts("]}");
}

static int64_t seconds(const char *text) { return (int64_t)(atof(text) * 1e9); }

int main(int argc, char **argv) {
  const char *request_path = NULL, *answer_path = NULL, *filler_path = NULL;
  size_t times = 0;
  int64_t warm = 0, open_for = 0, limit = seconds("60");
  for (int o; (o = getopt(argc, argv, "p:q:x:c:w:d:l:1ku:f:n:i:")) > 0;) switch (o) {
      case 'p': port = atoi(optarg); break;
      case 'q': request_path = optarg; break;
      case 'x': answer_path = optarg; break;
      case 'c': client_count = atol(optarg); break;
      case 'w': warm = seconds(optarg); break;
      case 'd': open_for = seconds(optarg); break;
      case 'l': limit = seconds(optarg); break;
      case '1': once = true; break;
      case 'k': hold = true; break;
      case 'u': linger = seconds(optarg); break;
      case 'f': filler_path = optarg; break;
      case 'n': times = strtoul(optarg, NULL, 10); break;
      case 'i': filler_at = strtoul(optarg, NULL, 10); break;
      default: return 2;
    }
  if (!request_path || !answer_path || client_count < 1 || argc - optind >= PIDS_MAX) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing of the benchmark outlives its driver */
  signal(SIGPIPE, SIG_IGN);
  request = read_file(request_path, &written_length);
  if (filler_path) filler = read_file(filler_path, &filler_length);
  if (filler_at > written_length) return 2;
  filler_end = filler_at + times * filler_length;
  request_length = written_length + times * filler_length;
  expected = read_file(answer_path, &expected_length);
  mark_events();
  clocks[clock_count++] = CLOCK_PROCESS_CPUTIME_ID;
  for (; optind < argc; optind++) /* the clock of another process: see clock_getcpuclockid(3) */
    clocks[clock_count++] = (clockid_t)((~(unsigned)atoi(argv[optind]) << 3) | 2);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (hold && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &e)) die("standard input");
  clients = calloc((size_t)client_count, sizeof *clients);
  if (!clients) die("calloc");
  int64_t start = now_ns(CLOCK_MONOTONIC);
  for (long i = 0; i < client_count; i++) {
    clients[i].fd = -1;
    begin(&clients[i]);
  }
  run(start + warm, start + warm + open_for, start + limit);
  if (window == WARMING) take_snapshot(&opening), window = OPEN;
  if (window == OPEN) take_snapshot(&closing), window = CLOSED;
  if (!hold)
    for (long i = 0; i < client_count; i++)
      if (clients[i].busy) fail(&clients[i], "no complete answer in time");
  report();
  return 0;
}
