/* Sockets by epoll and recv and send of our own: transports that an event loop hosts as one descriptor.

   Laws of this file:
   - A Wire is an asyncio transport, and to its protocol behaves as those of the loops do: data_received,
     eof_received, pause_writing and resume_writing are called as they are there, and connection_lost is,
     too: never from inside a call of the protocol's own, and once.
   - Level-triggered: what a turn leaves is reported again, so a turn may be cut short anywhere. A wire that
     wants nothing leaves the set, because the kernel reports its errors whether they are wanted or not.
   - One read of at most CHUNK bytes for a wire in a turn, and BATCH wires: nobody keeps the others waiting.
   - A wire that lingers is out of the set for reading, and in the list of those that the timer is for.
   - A descriptor leaves the set before it is closed, and its events of the turn in hand are dropped, so that
     whoever gets its number next never meets them.
*/

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#define BATCH 64
#define CHUNK (127 * 1024) /* more, and malloc would map the pages of every long read anew */
#define PARTS 64 /* pieces in one system call */
#define CALM 16  /* turns of one event each until the next wire is guessed, and guesses in a row */
#define BLOCK 8192     /* PostgreSQL and libpq send so much, or multiples of it, while there is more to come */
#define STREAM 2       /* reads of whole blocks in a row until a wire lingers */
#define LINGER 200000  /* so long (ns) */
#define SECOND 1000000000

typedef struct Wire Wire;

typedef struct {
    PyObject_HEAD
    PyObject *call_soon, *report;
    Wire *first; /* all that are connected */
    Py_ssize_t wires;
    int epoll, timer;
    long linger;           /* ns */
    Wire *lingering, *due; /* the first of those that linger, and that have lingered */
    Wire *likely;       /* last written to: where there is little to do, the next to speak */
    int calm, guesses;  /* turns in a row that had one event; that asked the likely one only */
    int at, count; /* the event in hand and how many this turn has; both 0 between turns */
    struct epoll_event events[BATCH];
    char chunk[CHUNK];
} Pump;

struct Wire {
    PyObject_HEAD
    Pump *pump;
    Wire *before, *behind;
    Wire **place, *later;     /* where it stands among those that linger, NULL: it does not */
    PyObject *sock, *protocol;
    PyObject *error;          /* what connection_lost will be told */
    PyObject *unsent;         /* list of bytes, NULL while there are none */
    Py_ssize_t skip, size;    /* sent of the first; left of all */
    Py_ssize_t high, low;
    int fd;
    uint32_t watched;         /* the events that the set has us for; 0: not in it */
    char streaming;           /* reads of whole blocks in a row, up to STREAM */
    char reading, ended;      /* the protocol wants to read; the other side has ended */
    char full;                /* the protocol was told to pause */
    char closing, lost;       /* close was called; connection_lost is due, or has been */
    char eof;                 /* 1: end of file is to follow what is unsent; 2: it was sent */
};

static PyTypeObject PumpType, WireType;
static PyObject *s_data_received, *s_eof_received, *s_pause_writing, *s_resume_writing, *s_connection_made,
    *s_connection_lost, *s_lose, *s_close;
static PyObject *socket_type;

static void wire_fail(Wire *self, PyObject *error);

/* An exception that nobody above could do anything about goes to whoever reports such. */
static void report(Wire *self) {
    PyObject *type, *error, *traceback, *answer;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    answer = PyObject_CallFunctionObjArgs(self->pump->report, error, self, NULL);
    if (answer == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(answer);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

/* The protocol has raised: that ends its connection, and the turn if it is no Exception, by -1. */
static int raised(Wire *self) {
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    report(self);
    wire_fail(self, NULL);
    return 0;
}

/* Call the protocol, which lives until it returns: it may be exchanged meanwhile, or the wire leave it. */
static PyObject *tell(Wire *self, PyObject *name, PyObject *word) {
    PyObject *protocol = Py_NewRef(self->protocol), *answer;

    answer = word ? PyObject_CallMethodOneArg(protocol, name, word) : PyObject_CallMethodNoArgs(protocol, name);
    Py_DECREF(protocol);
    return answer;
}

static PyObject *os_error(int number) {
    PyObject *error = PyObject_CallFunction(PyExc_OSError, "is", number, strerror(number));

    if (error == NULL) {
        PyErr_Clear();
    }
    return error;
}

/* Whether it is to be read from. */
static int wants_more(Wire *self) {
    return self->reading && !self->ended && !self->closing;
}

/* Tell the set what we want to hear of. */
static void wire_watch(Wire *self) {
    struct epoll_event event;
    int how, done;
    uint32_t wanted = 0;

    if (!self->lost) {
        wanted = self->size ? EPOLLOUT : 0;
        if (wants_more(self) && self->place == NULL) {
            wanted |= EPOLLIN;
        }
    }
    if (wanted == self->watched) {
        return;
    }
    event.events = wanted;
    event.data.ptr = self;
    how = !wanted ? EPOLL_CTL_DEL : self->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    done = epoll_ctl(self->pump->epoll, how, self->fd, &event);
    self->watched = done < 0 ? 0 : wanted;
    if (done < 0 && wanted) {
        wire_fail(self, os_error(errno));
    }
}

/* connection_lost is due. Who comes here with an exception leaves with it. */
static void wire_lose_soon(Wire *self) {
    PyObject *lose, *handle = NULL, *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    self->lost = self->closing = 1;
    wire_watch(self);
    lose = PyObject_GetAttr((PyObject *)self, s_lose);
    if (lose != NULL) {
        handle = PyObject_CallOneArg(self->pump->call_soon, lose);
        Py_DECREF(lose);
    }
    if (handle == NULL) {
        report(self);
    }
    Py_XDECREF(handle);
    PyErr_Restore(type, error, traceback);
}

/* Close at once, whatever is unsent. Takes the reference. */
static void wire_fail(Wire *self, PyObject *error) {
    if (self->lost || self->protocol == NULL) {
        Py_XDECREF(error);
        return;
    }
    Py_CLEAR(self->unsent);
    self->size = self->skip = 0;
    Py_XSETREF(self->error, error);
    wire_lose_soon(self);
}

/* Lingering. Who sends much sends it in blocks, and to pass on each by itself costs both sides, and us, a
   wake-up for each: so a wire that brings block after block is looked at a little later, when there are more.
   What was read is never held back, and a message that is no multiple of a block long ends it. */

static int set_timer(Pump *pump, long delay) {
    struct itimerspec when = {.it_value = {delay / SECOND, delay % SECOND}};

    return timerfd_settime(pump->timer, 0, &when, NULL);
}

static void end_linger(Wire *self) {
    if (self->place != NULL) {
        *self->place = self->later;
        if (self->later != NULL) {
            self->later->place = self->place;
        }
        self->place = NULL;
    }
}

static void begin_linger(Wire *self) {
    Pump *pump = self->pump;

    /* Whoever comes while the timer runs need not wait so long. */
    if (pump->lingering == NULL && set_timer(pump, pump->linger) < 0) {
        return;
    }
    self->place = &pump->lingering;
    self->later = pump->lingering;
    if (self->later != NULL) {
        self->later->place = &self->later;
    }
    pump->lingering = self;
    wire_watch(self);
}

/* Out of the set, out of the turn in hand, out of the pump's lists. */
static void wire_leave(Wire *self) {
    Pump *pump = self->pump;
    int at;

    self->lost = self->closing = 1;
    self->size = 0;
    Py_CLEAR(self->unsent);
    end_linger(self);
    wire_watch(self);
    for (at = pump->at; at < pump->count; at++) {
        if (pump->events[at].data.ptr == self) {
            pump->events[at].data.ptr = NULL;
        }
    }
    if (self->before != NULL) {
        self->before->behind = self->behind;
    } else {
        pump->first = self->behind;
    }
    if (self->behind != NULL) {
        self->behind->before = self->before;
    }
    self->before = self->behind = NULL;
    pump->wires--;
    if (pump->likely == self) {
        pump->likely = NULL;
    }
    Py_CLEAR(self->protocol);
    Py_DECREF(self);
}

static PyObject *wire_lose(Wire *self, PyObject *unused) {
    PyObject *answer;

    if (self->protocol == NULL) {
        Py_RETURN_NONE;
    }
    Py_INCREF(self);
    answer = tell(self, s_connection_lost, self->error ? self->error : Py_None);
    if (answer == NULL) {
        report(self);
    }
    Py_XDECREF(answer);
    if (self->protocol != NULL) {
        wire_leave(self);
        answer = PyObject_CallMethodNoArgs(self->sock, s_close);
        if (answer == NULL) {
            report(self);
        }
        Py_XDECREF(answer);
        self->fd = -1;
    }
    Py_DECREF(self);
    Py_RETURN_NONE;
}

/* Sending. */

/* Send from `items`, without `skip` bytes of the first, in one call; -1 with errno, -2 with an exception. */
static Py_ssize_t send_some(Wire *self, PyObject **items, Py_ssize_t count, Py_ssize_t skip) {
    Py_buffer buffers[PARTS];
    struct iovec parts[PARTS];
    struct msghdr message = {.msg_iov = parts};
    Py_ssize_t sent = 0, at = 0;

    if (count > PARTS) {
        count = PARTS;
    }
    for (; at < count; at++) {
        if (PyObject_GetBuffer(items[at], &buffers[at], PyBUF_SIMPLE) < 0) {
            sent = -2;
            goto done;
        }
        parts[at].iov_base = (char *)buffers[at].buf + skip;
        parts[at].iov_len = buffers[at].len - skip;
        skip = 0;
    }
    message.msg_iovlen = count;
    sent = sendmsg(self->fd, &message, MSG_NOSIGNAL);
done:
    {
        int number = errno;
        while (at-- > 0) {
            PyBuffer_Release(&buffers[at]);
        }
        errno = number;
    }
    return sent;
}

static int again(int number) {
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

/* Keep what of `data` the kernel has not taken; bytes as they are, for they do not change. */
static int keep(Wire *self, PyObject *data, Py_ssize_t sent) {
    PyObject *kept = data;
    Py_ssize_t length;
    int done;

    if (self->unsent == NULL && (self->unsent = PyList_New(0)) == NULL) {
        return -1;
    }
    if (PyBytes_CheckExact(data)) {
        Py_INCREF(kept);
    } else if ((kept = PyBytes_FromObject(data)) == NULL) {
        return -1;
    }
    length = PyBytes_GET_SIZE(kept) - sent;
    done = length ? PyList_Append(self->unsent, kept) : 0;
    Py_DECREF(kept);
    if (done == 0) {
        if (sent) {
            self->skip = sent;
        }
        self->size += length;
    }
    return done;
}

/* More is unsent than was. */
static int wire_filled(Wire *self) {
    PyObject *answer;

    wire_watch(self);
    if (self->size <= self->high || self->full || self->lost) {
        return 0;
    }
    self->full = 1;
    answer = tell(self, s_pause_writing, NULL);
    if (answer == NULL) {
        return raised(self);
    }
    Py_DECREF(answer);
    return 0;
}

/* Whether there is anything to be done about something that is written; -1 with an exception. */
static int writable(Wire *self) {
    if (self->eof) {
        PyErr_SetString(PyExc_RuntimeError, "Cannot call write() after write_eof()");
        return -1;
    }
    return !self->lost;
}

static PyObject *wire_write(Wire *self, PyObject *data) {
    Py_ssize_t sent = 0;
    int may = writable(self);

    if (may <= 0) {
        return may < 0 ? NULL : Py_NewRef(Py_None);
    }
    self->pump->likely = self;
    if (self->size == 0) {
        if (PyBytes_CheckExact(data)) {
            Py_ssize_t length = PyBytes_GET_SIZE(data);
            if (length == 0) {
                Py_RETURN_NONE;
            }
            sent = send(self->fd, PyBytes_AS_STRING(data), length, MSG_NOSIGNAL);
            if (sent == length) {
                Py_RETURN_NONE;
            }
        } else {
            Py_ssize_t length = PyObject_Length(data);
            if (length <= 0) {
                return length < 0 ? NULL : Py_NewRef(Py_None);
            }
            sent = send_some(self, &data, 1, 0);
            if (sent == length) {
                Py_RETURN_NONE;
            }
        }
        if (sent < 0) {
            if (sent == -2) {
                return NULL;
            }
            if (!again(errno)) {
                wire_fail(self, os_error(errno));
                Py_RETURN_NONE;
            }
            sent = 0;
        }
    }
    if (keep(self, data, sent) < 0) {
        /* A stream with a hole in it is of no use. */
        wire_fail(self, NULL);
        return NULL;
    }
    return wire_filled(self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* How many of the items `sent` bytes cover in whole; leaves in `sent` what they cover of the next. */
static Py_ssize_t whole(PyObject **items, Py_ssize_t count, Py_ssize_t *sent) {
    Py_ssize_t at, length;

    for (at = 0; at < count; at++) {
        length = PyBytes_CheckExact(items[at]) ? PyBytes_GET_SIZE(items[at]) : PyObject_Length(items[at]);
        if (*sent < length) {
            break;
        }
        *sent -= length;
    }
    return at;
}

static PyObject *wire_writelines(Wire *self, PyObject *given) {
    PyObject *parts, **items;
    Py_ssize_t count, at = 0, sent = 0;
    int may = writable(self);

    if (may <= 0) {
        return may < 0 ? NULL : Py_NewRef(Py_None);
    }
    parts = PySequence_Fast(given, "writelines() takes an iterable");
    if (parts == NULL) {
        return NULL;
    }
    self->pump->likely = self;
    items = PySequence_Fast_ITEMS(parts);
    count = PySequence_Fast_GET_SIZE(parts);
    while (self->size == 0 && at < count && sent == 0) {
        sent = send_some(self, items + at, count - at, 0);
        if (sent < 0) {
            if (sent == -2) {
                goto failed;
            }
            if (!again(errno)) {
                wire_fail(self, os_error(errno));
                goto done;
            }
            sent = 0;
            break;
        }
        at += whole(items + at, count - at < PARTS ? count - at : PARTS, &sent);
    }
    for (; at < count; at++) {
        if (keep(self, items[at], sent) < 0) {
            wire_fail(self, NULL);
            goto failed;
        }
        sent = 0;
    }
    if (self->size && wire_filled(self) < 0) {
        goto failed;
    }
done:
    Py_DECREF(parts);
    Py_RETURN_NONE;
failed:
    Py_DECREF(parts);
    return NULL;
}

/* Nothing is unsent any more: do what was to come behind it. */
static void wire_emptied(Wire *self) {
    if (self->eof == 1) {
        self->eof = 2;
        shutdown(self->fd, SHUT_WR);
    }
    if (self->closing && !self->lost) {
        wire_lose_soon(self);
    }
}

/* There is room again. Returns -1 for what is no Exception. */
static int wire_flush(Wire *self) {
    PyObject *answer;
    Py_ssize_t done, sent;

    sent = send_some(self, PySequence_Fast_ITEMS(self->unsent), PyList_GET_SIZE(self->unsent), self->skip);
    if (sent < 0) {
        if (sent == -2) {
            return raised(self);
        }
        if (!again(errno)) {
            wire_fail(self, os_error(errno));
        }
        return 0;
    }
    self->size -= sent;
    sent += self->skip;
    done = whole(PySequence_Fast_ITEMS(self->unsent), PyList_GET_SIZE(self->unsent), &sent);
    self->skip = sent;
    if (self->size == 0) {
        Py_CLEAR(self->unsent);
    } else if (done && PyList_SetSlice(self->unsent, 0, done, NULL) < 0) {
        return raised(self);
    }
    wire_watch(self);
    if (self->full && self->size <= self->low) {
        self->full = 0;
        answer = tell(self, s_resume_writing, NULL);
        if (answer == NULL) {
            return raised(self);
        }
        Py_DECREF(answer);
    }
    if (self->size == 0) {
        wire_emptied(self);
    }
    return 0;
}

/* Receiving. */

static void wire_close_(Wire *self) {
    if (!self->closing && self->protocol != NULL) {
        self->closing = 1;
        if (self->size == 0) {
            wire_lose_soon(self);
        } else {
            wire_watch(self);
        }
    }
}

/* Returns 1 where there was nothing. */
static int wire_receive(Wire *self) {
    Pump *pump = self->pump;
    PyObject *data, *answer;
    ssize_t got = recv(self->fd, pump->chunk, CHUNK, 0);

    if (got > 0) {
        Py_ssize_t blocks = got % BLOCK ? 0 : self->streaming + got / BLOCK;
        data = PyBytes_FromStringAndSize(pump->chunk, got);
        if (data == NULL) {
            return raised(self);
        }
        self->streaming = blocks < STREAM ? blocks : STREAM;
        answer = tell(self, s_data_received, data);
        Py_DECREF(data);
        if (answer == NULL) {
            return raised(self);
        }
        Py_DECREF(answer);
        if (self->streaming == STREAM && wants_more(self)) {
            begin_linger(self);
        }
    } else if (got == 0) {
        int stays;
        self->ended = 1;
        answer = tell(self, s_eof_received, NULL);
        stays = answer == NULL ? -1 : PyObject_IsTrue(answer);
        Py_XDECREF(answer);
        if (stays < 0) {
            return raised(self);
        }
        if (stays) {
            wire_watch(self);
        } else {
            wire_close_(self);
        }
    } else if (again(errno)) {
        self->streaming = 0;
        return 1;
    } else {
        wire_fail(self, os_error(errno));
    }
    return 0;
}

/* The timer has run out. */
static int linger_over(Pump *self) {
    int done = 0, left = BATCH;

    if (self->due == NULL && self->lingering != NULL) {
        self->due = self->lingering;
        self->due->place = &self->due;
        self->lingering = NULL;
    }
    while (self->due != NULL && left-- > 0 && done >= 0) {
        Wire *wire = self->due;
        Py_INCREF(wire);
        end_linger(wire);
        if (wants_more(wire)) {
            done = wire_receive(wire);
        }
        wire_watch(wire);
        Py_DECREF(wire);
    }
    if (self->due != NULL || self->lingering == NULL) {
        set_timer(self, self->due != NULL);
    }
    return done < 0 ? -1 : 0;
}

/* With a single client the next to speak is whom we wrote to, and asking the set first would cost a call for
   each. Returns 1 where that was a wrong guess, or there is nobody to guess. Never so often in a row that
   others would have to wait. */
static int guess(Pump *self) {
    Wire *wire = self->likely;
    int done;

    if (self->calm < CALM || self->guesses >= CALM || wire == NULL || !(wire->watched & EPOLLIN)) {
        return 1;
    }
    self->guesses++;
    self->at = self->count = 1;
    Py_INCREF(wire);
    done = wire_receive(wire);
    Py_DECREF(wire);
    self->at = self->count = 0;
    if (done > 0) {
        self->calm = 0;
    }
    return done;
}

static PyObject *pump_turn(Pump *self, PyObject *unused) {
    int count, done;

    if (self->count) {
        PyErr_SetString(PyExc_RuntimeError, "a turn inside a turn");
        return NULL;
    }
    done = guess(self);
    if (done <= 0) {
        return done < 0 ? NULL : Py_NewRef(Py_None);
    }
    done = self->guesses = 0;
    count = epoll_wait(self->epoll, self->events, BATCH, 0);
    if (count < 0) {
        if (errno == EINTR) {
            Py_RETURN_NONE;
        }
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    self->calm = count == 1 ? self->calm + (self->calm < CALM) : 0;
    self->count = count;
    for (self->at = 0; self->at < self->count && done == 0; self->at++) {
        uint32_t events = self->events[self->at].events;
        Wire *wire = self->events[self->at].data.ptr;
        if (wire == NULL) {
            continue;
        }
        if ((void *)wire == (void *)self) {
            self->calm = 0;
            done = linger_over(self);
            continue;
        }
        Py_INCREF(wire);
        if (events & ~EPOLLOUT && wire->watched & EPOLLIN) {
            done = wire_receive(wire) < 0 ? -1 : 0;
        }
        if (done == 0 && events & ~EPOLLIN && wire->watched & EPOLLOUT) {
            done = wire_flush(wire);
        }
        Py_DECREF(wire);
    }
    self->at = self->count = 0;
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* The rest of a transport. */

static PyObject *wire_pause_reading(Wire *self, PyObject *unused) {
    self->reading = 0;
    wire_watch(self);
    Py_RETURN_NONE;
}

static PyObject *wire_resume_reading(Wire *self, PyObject *unused) {
    self->reading = 1;
    wire_watch(self);
    Py_RETURN_NONE;
}

static PyObject *wire_is_reading(Wire *self, PyObject *unused) {
    return PyBool_FromLong(self->reading && !self->ended && !self->closing);
}

static PyObject *wire_is_closing(Wire *self, PyObject *unused) {
    return PyBool_FromLong(self->closing);
}

static PyObject *wire_close(Wire *self, PyObject *unused) {
    wire_close_(self);
    Py_RETURN_NONE;
}

static PyObject *wire_abort(Wire *self, PyObject *unused) {
    wire_fail(self, NULL);
    Py_RETURN_NONE;
}

static PyObject *wire_can_write_eof(Wire *self, PyObject *unused) {
    Py_RETURN_TRUE;
}

static PyObject *wire_write_eof(Wire *self, PyObject *unused) {
    if (!self->eof && !self->lost) {
        self->eof = 1;
        if (self->size == 0) {
            self->eof = 2;
            if (shutdown(self->fd, SHUT_WR) < 0) {
                return PyErr_SetFromErrno(PyExc_OSError);
            }
        }
    }
    Py_RETURN_NONE;
}

static PyObject *wire_get_write_buffer_size(Wire *self, PyObject *unused) {
    return PyLong_FromSsize_t(self->size);
}

static PyObject *wire_set_limits(Wire *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"high", "low", NULL};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nn", names, &self->high, &self->low)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *wire_get_protocol(Wire *self, PyObject *unused) {
    return Py_NewRef(self->protocol ? self->protocol : Py_None);
}

static PyObject *wire_set_protocol(Wire *self, PyObject *protocol) {
    if (self->protocol != NULL) {
        Py_SETREF(self->protocol, Py_NewRef(protocol));
    }
    Py_RETURN_NONE;
}

static PyObject *wire_get_extra_info(Wire *self, PyObject *args) {
    PyObject *found, *otherwise = Py_None;
    const char *name;

    if (!PyArg_ParseTuple(args, "s|O", &name, &otherwise)) {
        return NULL;
    }
    if (strcmp(name, "socket") == 0) {
        return Py_NewRef(self->sock);
    }
    if (strcmp(name, "peername") != 0 && strcmp(name, "sockname") != 0) {
        return Py_NewRef(otherwise);
    }
    found = PyObject_CallMethod(self->sock, *name == 'p' ? "getpeername" : "getsockname", NULL);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear();
        return Py_NewRef(otherwise);
    }
    return found;
}

static PyObject *wire_detach(Wire *self, PyObject *unused) {
    if (self->closing || self->size || self->eof) {
        PyErr_SetString(PyExc_RuntimeError, "only an open wire with nothing unsent can be given away");
        return NULL;
    }
    wire_leave(self);
    self->fd = -1;
    return Py_NewRef(self->sock);
}

static int wire_traverse(Wire *self, visitproc visit, void *arg) {
    Py_VISIT(self->pump);
    Py_VISIT(self->sock);
    Py_VISIT(self->protocol);
    Py_VISIT(self->error);
    Py_VISIT(self->unsent);
    return 0;
}

static int wire_clear(Wire *self) {
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->error);
    Py_CLEAR(self->unsent);
    return 0;
}

static void wire_dealloc(Wire *self) {
    PyObject_GC_UnTrack(self);
    wire_clear(self);
    Py_XDECREF(self->sock);
    Py_XDECREF(self->pump);
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef wire_methods[] = {
    {"write", (PyCFunction)wire_write, METH_O, NULL},
    {"writelines", (PyCFunction)wire_writelines, METH_O, NULL},
    {"pause_reading", (PyCFunction)wire_pause_reading, METH_NOARGS, NULL},
    {"resume_reading", (PyCFunction)wire_resume_reading, METH_NOARGS, NULL},
    {"is_reading", (PyCFunction)wire_is_reading, METH_NOARGS, NULL},
    {"is_closing", (PyCFunction)wire_is_closing, METH_NOARGS, NULL},
    {"close", (PyCFunction)wire_close, METH_NOARGS, NULL},
    {"abort", (PyCFunction)wire_abort, METH_NOARGS, NULL},
    {"can_write_eof", (PyCFunction)wire_can_write_eof, METH_NOARGS, NULL},
    {"write_eof", (PyCFunction)wire_write_eof, METH_NOARGS, NULL},
    {"get_write_buffer_size", (PyCFunction)wire_get_write_buffer_size, METH_NOARGS, NULL},
    {"set_write_buffer_limits", (PyCFunction)wire_set_limits, METH_VARARGS | METH_KEYWORDS, NULL},
    {"get_protocol", (PyCFunction)wire_get_protocol, METH_NOARGS, NULL},
    {"set_protocol", (PyCFunction)wire_set_protocol, METH_O, NULL},
    {"get_extra_info", (PyCFunction)wire_get_extra_info, METH_VARARGS, NULL},
    {"detach", (PyCFunction)wire_detach, METH_NOARGS, NULL},
    {"_lose", (PyCFunction)wire_lose, METH_NOARGS, NULL},
    {NULL},
};

static PyTypeObject WireType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "proxy.pump.Wire",
    .tp_basicsize = sizeof(Wire),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)wire_traverse,
    .tp_clear = (inquiry)wire_clear,
    .tp_dealloc = (destructor)wire_dealloc,
    .tp_methods = wire_methods,
};

/* The pump. */

static PyObject *pump_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    struct epoll_event event = {.events = EPOLLIN};
    Pump *self;
    PyObject *call_soon, *report;

    if (!PyArg_ParseTuple(args, "OO", &call_soon, &report)) {
        return NULL;
    }
    self = (Pump *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    event.data.ptr = self;
    self->linger = LINGER;
    self->call_soon = Py_NewRef(call_soon);
    self->report = Py_NewRef(report);
    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0 || self->timer < 0 || epoll_ctl(self->epoll, EPOLL_CTL_ADD, self->timer, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyObject *adopt(Pump *self, PyObject *sock, PyObject *protocol) {
    PyObject *answer;
    Wire *wire;
    int one = 1, fd = PyObject_AsFileDescriptor(sock);

    if (fd < 0) {
        return NULL;
    }
    wire = (Wire *)WireType.tp_alloc(&WireType, 0);
    if (wire == NULL) {
        return NULL;
    }
    wire->pump = (Pump *)Py_NewRef(self);
    wire->sock = Py_NewRef(sock);
    wire->protocol = Py_NewRef(protocol);
    wire->fd = fd;
    wire->high = 64 * 1024;
    wire->low = 16 * 1024;
    wire->reading = 1;
    wire->behind = self->first;
    if (self->first != NULL) {
        self->first->before = wire;
    }
    self->first = wire;
    self->wires++;
    /* No such thing on a unix socket. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    Py_INCREF(wire);
    answer = tell(wire, s_connection_made, (PyObject *)wire);
    if (answer == NULL) {
        if (raised(wire) < 0) {
            Py_DECREF(wire);
            return NULL;
        }
    }
    Py_XDECREF(answer);
    if (!wire->lost) {
        wire_watch(wire);
    }
    return (PyObject *)wire;
}

static PyObject *pump_adopt(Pump *self, PyObject *args) {
    PyObject *sock, *protocol;

    if (!PyArg_ParseTuple(args, "OO", &sock, &protocol)) {
        return NULL;
    }
    return adopt(self, sock, protocol);
}

/* One connection was accepted. Its socket is a plain one, of the kind that socket.socket is made from, which
   would take several times as long to make. Who connects has mostly spoken by now, since the kernel is told to
   wait for that (tcp_defer_accept): heard at once, it costs no turn. */
static int enter(Pump *self, int fd, int family, PyObject *accepted) {
    PyObject *sock = PyObject_CallFunction(socket_type, "iiii", family, SOCK_STREAM, 0, fd);
    PyObject *protocol, *wire = NULL;
    int done = -1;

    if (sock == NULL) {
        close(fd);
        return -1;
    }
    protocol = PyObject_CallNoArgs(accepted);
    if (protocol != NULL) {
        wire = adopt(self, sock, protocol);
        Py_DECREF(protocol);
    }
    Py_DECREF(sock);
    if (wire != NULL) {
        done = ((Wire *)wire)->watched & EPOLLIN && wire_receive((Wire *)wire) < 0 ? -1 : 0;
        Py_DECREF(wire);
    }
    return done;
}

static PyObject *pump_accept(Pump *self, PyObject *args) {
    PyObject *accepted;
    int listening, most;

    if (!PyArg_ParseTuple(args, "iOi", &listening, &accepted, &most)) {
        return NULL;
    }
    while (most-- > 0) {
        struct sockaddr_storage address;
        socklen_t length = sizeof(address);
        int fd = accept4(listening, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (again(errno) || errno == ECONNABORTED) {
                break;
            }
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (enter(self, fd, address.ss_family, accepted) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *pump_fileno(Pump *self, PyObject *unused) {
    return PyLong_FromLong(self->epoll);
}

static Py_ssize_t pump_length(Pump *self) {
    return self->wires;
}

static int pump_traverse(Pump *self, visitproc visit, void *arg) {
    Wire *wire;

    Py_VISIT(self->call_soon);
    Py_VISIT(self->report);
    for (wire = self->first; wire != NULL; wire = wire->behind) {
        Py_VISIT(wire);
    }
    return 0;
}

static int pump_clear(Pump *self) {
    while (self->first != NULL) {
        wire_leave(self->first);
    }
    Py_CLEAR(self->call_soon);
    Py_CLEAR(self->report);
    return 0;
}

static void pump_dealloc(Pump *self) {
    PyObject_GC_UnTrack(self);
    pump_clear(self);
    if (self->epoll >= 0) {
        close(self->epoll);
    }
    if (self->timer >= 0) {
        close(self->timer);
    }
    Py_TYPE(self)->tp_free(self);
}

static PyMethodDef pump_methods[] = {
    {"accept", (PyCFunction)pump_accept, METH_VARARGS, NULL},
    {"adopt", (PyCFunction)pump_adopt, METH_VARARGS, NULL},
    {"fileno", (PyCFunction)pump_fileno, METH_NOARGS, NULL},
    {"turn", (PyCFunction)pump_turn, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef pump_members[] = {
    {"linger", T_LONG, offsetof(Pump, linger), 0, NULL},
    {NULL},
};

static PySequenceMethods pump_sequence = {.sq_length = (lenfunc)pump_length};

static PyTypeObject PumpType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "proxy.pump.Pump",
    .tp_basicsize = sizeof(Pump),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = pump_new,
    .tp_traverse = (traverseproc)pump_traverse,
    .tp_clear = (inquiry)pump_clear,
    .tp_dealloc = (destructor)pump_dealloc,
    .tp_methods = pump_methods,
    .tp_members = pump_members,
    .tp_as_sequence = &pump_sequence,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "pump", .m_size = -1};

PyMODINIT_FUNC
PyInit_pump(void)
{
    static const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&s_data_received, "data_received"}, {&s_eof_received, "eof_received"},
        {&s_pause_writing, "pause_writing"}, {&s_resume_writing, "resume_writing"},
        {&s_connection_made, "connection_made"}, {&s_connection_lost, "connection_lost"},
        {&s_lose, "_lose"}, {&s_close, "close"},
    };
    PyObject *made, *sockets;
    size_t at;

    sockets = PyImport_ImportModule("_socket");
    if (sockets == NULL) {
        return NULL;
    }
    socket_type = PyObject_GetAttrString(sockets, "socket");
    Py_DECREF(sockets);
    if (socket_type == NULL) {
        return NULL;
    }
    for (at = 0; at < sizeof(names) / sizeof(*names); at++) {
        *names[at].name = PyUnicode_InternFromString(names[at].text);
        if (*names[at].name == NULL) {
            return NULL;
        }
    }
    if (PyType_Ready(&WireType) < 0 || (made = PyModule_Create(&module)) == NULL) {
        return NULL;
    }
    if (PyModule_AddType(made, &PumpType) < 0 || PyModule_AddType(made, &WireType) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}
