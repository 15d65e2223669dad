/* upstream: the model server of the benchmark, cheap enough not to be what is measured (one thread, epoll).
 *
 *   upstream PORT
 *
 * Serves HTTP/1.1 with keep-alive on 127.0.0.1; the bodies it understands are those of `traffic.py`:
 *   POST, "stream":true    "events":N events of about 200 bytes, one HTTP chunk and one write each: the first at once,
 *                          the others every "pace_ms":P; a usage event if "include_usage":true; then data: [DONE]
 *   the same, /v1/messages a stream as Anthropic's API sends it, event lines and all: N - 1 pieces of text, each as
 *                          above, then the reason to stop with usage, then message_stop
 *   POST, /v1/audio/...    JSON with the length and a checksum of the body, which is read to its end whatever it holds
 *   POST, otherwise        600 bytes of JSON with usage
 *   any other method       {"status":"ok"}
 * A POST for another model than `mock-model`, or without a Content-Length, is answered 404: a router that does not
 * rename the model cannot pass. In an upload the name of the model is part of what the checksum is made of.
 *
 * "turns":N,"turn":K,"turn_ms":T in the body let a stream speak only in every Nth piece of T ms, the Kth: streams
 * through two systems then take turns so quickly that both meet the same fast and slow phases of the machine.
 *
 * Pace is kept by a wheel of one-millisecond slots. Each stream starts at another phase of its pace, as independent
 * answers do; if all of them fired together, one wake-up of the system under test would serve many chunks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
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

enum { KEPT_MAX = 16 * 1024, READ_MAX = 256 * 1024, SLOTS = 4096, PACE_MS_MAX = SLOTS / 2, PHASE_STEP = 7 };

typedef struct {
  char bytes[2048];
  size_t length;
} text;

/* What a stream consists of, in one API's words. */
typedef struct {
  text opening; /* before the first event of content, with it; may be empty */
  text words[16];
  text finish; /* the last event of content */
  text usage;  /* if the request asks for it; may be empty */
  text done;
} dialect;

typedef struct conn {
  int fd;
  bool closed;
  size_t got;      /* bytes of the current request, whether kept or not */
  size_t wanted;   /* its head and body together; 0 while the head is incomplete */
  size_t head;     /* its head, the empty line included */
  char kept[KEPT_MAX + 1]; /* its beginning: nothing we look for stands further in */
  const char *pending;     /* what a full socket did not take */
  size_t pending_length;
  text receipt;            /* the answer to an upload */
  uint64_t checksum;       /* of its body so far: 64-bit FNV-1a */
  const dialect *speaks;
  long events_left, pace_ms, turns, turn, turn_ms;
  bool upload, streaming, usage_asked;
  int64_t due_ms;
  struct conn *next, **link; /* place in the wheel; `next` also chains closed connections until they may be freed */
} conn;

static int epoll_fd;
static long streaming;
static uint64_t streams_started;
static conn *wheel[SLOTS], *closed_conns;
static text json_answer, health_answer, not_found_answer, stream_head;
static dialect chat, messages;

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void unschedule(conn *c) {
  if (!c->link) return;
  *c->link = c->next;
  if (c->next) c->next->link = c->link;
  c->link = NULL;
  c->next = NULL;
}

static void schedule(conn *c, int64_t due_ms) {
  conn **slot = &wheel[due_ms % SLOTS];
  c->due_ms = due_ms;
  c->next = *slot;
  if (c->next) c->next->link = &c->next;
  c->link = slot;
  *slot = c;
}

static void end_stream(conn *c) {
  if (!c->streaming) return;
  unschedule(c);
  c->streaming = false;
  streaming--;
}

static void drop(conn *c) {
  if (c->closed) return;
  end_stream(c);
  close(c->fd);
  c->closed = true;
  c->next = closed_conns;
  closed_conns = c;
}

static void watch(conn *c, bool writable) {
  struct epoll_event e = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Everything we send lives as long as the connection, so what a socket does not take is remembered as a pointer. */
static void send_bytes(conn *c, const char *p, size_t n) {
  ssize_t k = write(c->fd, p, n);
  if (k == (ssize_t)n) return;
  if (k < 0 && errno != EAGAIN) {
    drop(c);
    return;
  }
  if (k < 0) k = 0;
  c->pending = p + k;
  c->pending_length = n - (size_t)k;
  watch(c, true);
}

static void send_text(conn *c, const text *t) {
  if (t->length && !c->closed && !c->pending) send_bytes(c, t->bytes, t->length);
}

static void flush_pending(conn *c) {
  const char *p = c->pending;
  size_t n = c->pending_length;
  c->pending = NULL;
  watch(c, false);
  send_bytes(c, p, n);
}

/* Moves a moment forward by whole paces until it lies in the stream's turn. */
static int64_t in_turn(const conn *c, int64_t due_ms) {
  while (due_ms / c->turn_ms % c->turns != c->turn) due_ms += c->pace_ms;
  return due_ms;
}

/* Sends what is due on a stream: one event, or after the last one the end. A full socket makes it wait for its turn. */
static void step(conn *c, int64_t now) {
  if (c->pending) {
    schedule(c, now + 1);
  } else if (c->events_left > 0) {
    c->events_left--;
    send_text(c, c->events_left ? &c->speaks->words[c->events_left % 16] : &c->speaks->finish);
    int64_t due = in_turn(c, c->due_ms + c->pace_ms);
    if (!c->closed) schedule(c, due > now ? due : now + 1);
  } else if (c->usage_asked) {
    c->usage_asked = false;
    send_text(c, &c->speaks->usage);
    if (!c->closed) step(c, now);
  } else {
    send_text(c, &c->speaks->done);
    end_stream(c);
  }
}

static bool says(const conn *c, size_t from, size_t to, const char *what) {
  return memmem(c->kept + from, to - from, what, strlen(what)) != NULL;
}

static long number(const conn *c, size_t from, size_t to, const char *name, long otherwise) {
  const char *p = memmem(c->kept + from, to - from, name, strlen(name));
  return p ? atol(p + strlen(name)) : otherwise;
}

static bool is_for(const conn *c, const char *path) {
  return !strncmp(c->kept, "POST ", 5) && !strncmp(c->kept + 5, path, strlen(path));
}

static void start_stream(conn *c, size_t from, size_t to) {
  int64_t now = now_ms();
  c->speaks = is_for(c, "/v1/messages") ? &messages : &chat;
  c->events_left = number(c, from, to, "\"events\":", 1);
  c->pace_ms = number(c, from, to, "\"pace_ms\":", 20);
  if (c->pace_ms < 1 || c->pace_ms > PACE_MS_MAX) c->pace_ms = 20;
  c->turns = number(c, from, to, "\"turns\":", 1);
  c->turn = number(c, from, to, "\"turn\":", 0);
  c->turn_ms = number(c, from, to, "\"turn_ms\":", 1000);
  bool possible = c->turn >= 0 && c->turn < c->turns && c->turn_ms >= c->pace_ms;
  if (!possible || c->turns * c->turn_ms > PACE_MS_MAX) c->turns = 1, c->turn = 0, c->turn_ms = PACE_MS_MAX;
  c->usage_asked = says(c, from, to, "\"include_usage\":true") || says(c, from, to, "\"include_usage\": true");
  c->streaming = true;
  streaming++;
  send_text(c, &stream_head);
  send_text(c, &c->speaks->opening);
  if (c->closed) return;
  c->due_ms = now - c->pace_ms + 1 + (int64_t)(streams_started++ * PHASE_STEP % (uint64_t)c->pace_ms);
  step(c, now);
}

static void set_answer(text *t, const char *status, const char *body) {
  t->length = (size_t)snprintf(t->bytes, sizeof t->bytes,
                               "HTTP/1.1 %s\r\ndate: Sat, 01 Nov 2025 10:00:00 GMT\r\nserver: bench\r\n"
                               "content-type: application/json\r\nx-request-id: req_0123456789abcdef\r\n"
                               "content-length: %zu\r\n\r\n%s",
                               status, strlen(body), body);
}

static void answer_upload(conn *c, size_t body_length) {
  char body[256];
  snprintf(body, sizeof body,
           "{\"text\":\"%zu bytes with the checksum %016llx.\",\"usage\":{\"type\":\"duration\",\"seconds\":60}}",
           body_length, (unsigned long long)c->checksum);
  set_answer(&c->receipt, "200 OK", body);
  send_text(c, &c->receipt);
}

static void answer(conn *c) {
  size_t from = c->head, to = c->wanted < KEPT_MAX ? c->wanted : KEPT_MAX;
  size_t body_length = c->wanted - c->head;
  bool post = c->kept[0] == 'P';
  c->got = c->wanted = 0;
  if (!post) send_text(c, &health_answer);
  else if (c->upload) answer_upload(c, body_length);
  else if (!says(c, from, to, "\"mock-model\"")) send_text(c, &not_found_answer);
  else if (says(c, from, to, "\"stream\":true")) start_stream(c, from, to);
  else send_text(c, &json_answer);
}

/* Finds the end of the head and how much follows it. Returns false while the head is incomplete. */
static bool measure(conn *c) {
  size_t kept = c->got < KEPT_MAX ? c->got : KEPT_MAX;
  c->kept[kept] = 0;
  const char *end = memmem(c->kept, kept, "\r\n\r\n", 4);
  if (!end) return false;
  c->head = (size_t)(end + 4 - c->kept);
  c->wanted = c->head;
  const char *length = strcasestr(c->kept, "\r\ncontent-length:");
  if (length && length < end) c->wanted += strtoul(length + 17, NULL, 10);
  c->upload = is_for(c, "/v1/audio/");
  c->checksum = 14695981039346656037u;
  return true;
}

/* Adds what just came to the checksum of the body, unless it belongs to the head. */
static void check(conn *c, const char *came, size_t n) {
  size_t before = c->got - n, skipped = c->head > before ? c->head - before : 0;
  uint64_t sum = c->checksum;
  for (size_t i = skipped; i < n; i++) sum = (sum ^ (unsigned char)came[i]) * 1099511628211u;
  c->checksum = sum;
}

static void receive(conn *c) {
  static char scratch[READ_MAX];
  ssize_t k = read(c->fd, scratch, sizeof scratch);
  if (k < 0 && errno == EAGAIN) return;
  if (k <= 0 || c->streaming) { /* gone; or a second request in the middle of an answer, which no system here sends */
    drop(c);
    return;
  }
  if (c->got < KEPT_MAX) {
    size_t room = KEPT_MAX - c->got;
    memcpy(c->kept + c->got, scratch, (size_t)k < room ? (size_t)k : room);
  }
  c->got += (size_t)k;
  if (!c->wanted && !measure(c)) {
    if (c->got >= KEPT_MAX) drop(c);
    return;
  }
  if (c->upload) check(c, scratch, (size_t)k);
  if (c->got == c->wanted) answer(c);
  else if (c->got > c->wanted) drop(c);
}

static void accept_all(int listener) {
  for (;;) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = fd;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
  }
}

static void turn_wheel(int64_t *turned, int64_t now) {
  for (; *turned < now; ++*turned) {
    conn *due = wheel[(*turned + 1) % SLOTS];
    wheel[(*turned + 1) % SLOTS] = NULL;
    while (due) {
      conn *c = due;
      due = c->next;
      c->next = NULL;
      c->link = NULL;
      step(c, now);
    }
  }
}

/* Appends an event, or several, as one HTTP chunk. */
static void add_chunk(text *t, const char *event) {
  char *end = t->bytes + t->length;
  t->length += (size_t)snprintf(end, sizeof t->bytes - t->length, "%zx\r\n%s\r\n", strlen(event), event);
}

static void add_last_chunk(text *t) {
  memcpy(t->bytes + t->length, "0\r\n\r\n", 5);
  t->length += 5;
}

#define ID "\"id\":\"chatcmpl-bench0001\",\"object\":\"chat.completion"
#define MODEL "\"created\":1761991200,\"model\":\"mock-model\""
#define NAMED(name) "event: " name "\ndata: {\"type\":\"" name "\""

static const char *const words[16] = {"router", "stream", "client", "tokens", "models", "answer", "prompt", "weight",
                                      "server", "socket", "policy", "budget", "health", "limits", "member", "worker"};

static void set_answers(void) {
  set_answer(&json_answer, "200 OK",
             "{" ID "\"," MODEL ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A router "
             "stands between clients and model servers. It spreads requests by weight, moves them away from servers "
             "that fail, and hands back what the server said, byte for byte.\",\"refusal\":null},\"logprobs\":null,"
             "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":180,\"completion_tokens\":42,\"total_tokens\":"
             "222,\"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":"
             "0}},\"system_fingerprint\":\"fp_bench\"}");
  set_answer(&health_answer, "200 OK", "{\"status\":\"ok\"}");
  set_answer(&not_found_answer, "404 Not Found", "{\"error\":{\"message\":\"no such model\"}}");
  stream_head.length = (size_t)snprintf(stream_head.bytes, sizeof stream_head.bytes,
                                        "HTTP/1.1 200 OK\r\ndate: Sat, 01 Nov 2025 10:00:00 GMT\r\nserver: bench\r\n"
                                        "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
                                        "x-request-id: req_0123456789abcdef\r\ntransfer-encoding: chunked\r\n\r\n");
}

static void set_chat(void) {
  char event[512];
  for (int i = 0; i < 16; i++) {
    snprintf(event, sizeof event,
             "data: {" ID ".chunk\"," MODEL ",\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\"delta\":{"
             "\"content\":\" %s\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
             words[i]);
    add_chunk(&chat.words[i], event);
  }
  add_chunk(&chat.finish,
            "data: {" ID ".chunk\"," MODEL ",\"system_fingerprint\":\"fp_bench\",\"choices\":[{\"index\":0,\"delta\":{}"
            ",\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
  add_chunk(&chat.usage,
            "data: {" ID ".chunk\"," MODEL ",\"system_fingerprint\":\"fp_bench\",\"choices\":[],\"usage\":{"
            "\"prompt_tokens\":180,\"completion_tokens\":100,\"total_tokens\":280}}\n\n");
  add_chunk(&chat.done, "data: [DONE]\n\n");
  add_last_chunk(&chat.done);
}

static void set_messages(void) {
  char event[512];
  add_chunk(&messages.opening,
            NAMED("message_start") ",\"message\":{\"model\":\"mock-model\",\"id\":\"msg_bench0001\","
            "\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"stop_reason\":null,"
            "\"stop_sequence\":null,\"usage\":{\"input_tokens\":180,\"cache_creation_input_tokens\":0,"
            "\"cache_read_input_tokens\":0,\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,"
            "\"ephemeral_1h_input_tokens\":0},\"output_tokens\":1,\"service_tier\":\"standard\"}}      }\n\n");
  add_chunk(&messages.opening,
            NAMED("content_block_start") ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}     }\n\n");
  add_chunk(&messages.opening, NAMED("ping") "}\n\n");
  for (int i = 0; i < 16; i++) {
    snprintf(event, sizeof event,
             NAMED("content_block_delta") ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" %s\"}    }\n\n",
             words[i]);
    add_chunk(&messages.words[i], event);
  }
  add_chunk(&messages.finish, NAMED("content_block_stop") ",\"index\":0    }\n\n");
  add_chunk(&messages.finish,
            NAMED("message_delta") ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{"
            "\"input_tokens\":180,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,"
            "\"output_tokens\":100}       }\n\n");
  add_chunk(&messages.done, NAMED("message_stop") "     }\n\n");
  add_last_chunk(&messages.done);
}

static int listen_on(int port) {
  int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 4096)) {
    perror("upstream");
    exit(1);
  }
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fputs("usage: upstream PORT\n", stderr);
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing of the benchmark outlives its driver */
  signal(SIGPIPE, SIG_IGN);
  set_answers();
  set_chat();
  set_messages();
  int listener = listen_on(atoi(argv[1]));
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
  int64_t turned = now_ms();
  for (;;) {
    int n = epoll_wait(epoll_fd, ready, 512, streaming ? 1 : 1000);
    for (int i = 0; i < n; i++) {
      conn *c = ready[i].data.ptr;
      if (!c) {
        accept_all(listener);
        continue;
      }
      if (!c->closed && ready[i].events & EPOLLOUT && c->pending) flush_pending(c);
      if (!c->closed && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
    }
    turn_wheel(&turned, now_ms());
    while (closed_conns) {
      conn *c = closed_conns;
      closed_conns = c->next;
      free(c);
    }
  }
}
