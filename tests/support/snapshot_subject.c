// A program that notices if a snapshot touched any of its threads: registers, red zone, vector and
// FPU state, signal mask, results of system calls. It aborts when one is wrong.
//
// snapshot_subject MB KIND...: touches MB of memory and runs one thread of each kind, the first on
// the main thread. Prints "ready", ends well at the end of its standard input with "ok LOOPS".
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// What `held` loads into the processor, keeps there during a loop or a system call, and stores.
struct state {
    unsigned long general[6];   // rbx rbp r12 r13 r14 r15
    unsigned long vectors[16 * 4];  // ymm0 to ymm15
    unsigned long red_zone[16];
    unsigned mxcsr;
    unsigned short x87_control;
};

// long held(const struct state *in, struct state *out, long number, const long arguments[4])
// number < 0: loop -number times; else that system call, whose result is returned.
long held(const struct state *, struct state *, long, const long *);
__asm__(
    ".text\n.globl held\nheld:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "push %rsi\nsub $24,%rsp\nstmxcsr (%rsp)\nfnstcw 8(%rsp)\n"
    "ldmxcsr 688(%rdi)\nfldcw 692(%rdi)\n"
    "mov %rcx,%r10\nmov %rdx,%rax\n"
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "vmovups 48+32*\\n(%rdi),%ymm\\n\nmov 560+8*\\n(%rdi),%rbx\nmov %rbx,-128+8*\\n(%rsp)\n"
    ".endr\n"
    "mov (%rdi),%rbx\nmov 8(%rdi),%rbp\nmov 16(%rdi),%r12\nmov 24(%rdi),%r13\n"
    "mov 32(%rdi),%r14\nmov 40(%rdi),%r15\n"
    "test %rax,%rax\njns 2f\n"
    "1: inc %rax\njnz 1b\njmp 3f\n"
    "2: mov (%r10),%rdi\nmov 8(%r10),%rsi\nmov 16(%r10),%rdx\nmov 32(%r10),%r8\nmov 24(%r10),%r10\n"
    "syscall\n"
    "3: mov 24(%rsp),%rsi\n"
    "mov %rbx,(%rsi)\nmov %rbp,8(%rsi)\nmov %r12,16(%rsi)\nmov %r13,24(%rsi)\n"
    "mov %r14,32(%rsi)\nmov %r15,40(%rsi)\n"
    ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
    "vmovups %ymm\\n,48+32*\\n(%rsi)\nmov -128+8*\\n(%rsp),%rbx\nmov %rbx,560+8*\\n(%rsi)\n"
    ".endr\n"
    "stmxcsr 688(%rsi)\nfnstcw 692(%rsi)\nldmxcsr (%rsp)\nfldcw 8(%rsp)\nvzeroupper\n"
    "add $32,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
_Static_assert(offsetof(struct state, vectors) == 48, "held");
_Static_assert(offsetof(struct state, red_zone) == 560, "held");
_Static_assert(offsetof(struct state, mxcsr) == 688, "held");
_Static_assert(offsetof(struct state, x87_control) == 692, "held");

static atomic_long loops;
static atomic_int stopping;
static int ticks[2];  // a pipe with the numbers 0, 1, 2, ... modulo 256

static void fail(const char *what, long detail)
{
    printf("BAD %s %ld\n", what, detail);
    fflush(stdout);
    abort();
}

static long checked(int id, long number, const long arguments[5])
{
    static _Atomic unsigned long seed = 1;
    struct state in = {0}, out = {0};
    unsigned long *words = (unsigned long *)&in;
    unsigned long mix = atomic_fetch_add(&seed, 0x9e3779b97f4a7c15);
    for (size_t i = 0; i < offsetof(struct state, mxcsr) / 8; i++)
        words[i] = (mix = mix * 6364136223846793005 + id);
    in.mxcsr = 0x1f80 | (id & 3) << 13;         // another rounding mode for each thread
    in.x87_control = 0x37f | (id & 3) << 10;
    long result = held(&in, &out, number, arguments);
    out.mxcsr &= ~0x3f;
    if (memcmp(&in, &out, offsetof(struct state, x87_control) + 2) != 0)
        for (size_t i = 0; i < sizeof in; i++)
            if (((char *)&in)[i] != ((char *)&out)[i])
                fail("state", i);
    return result;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void spin(int id)
{
    checked(id, -200000, 0);
}

static void timed(int id)  // calls that count their time: started anew, never cut short
{
    struct timespec t = {0, 3000000};
    double began = now();
    long result;
    if (id & 1)
        result = checked(id, SYS_nanosleep, (long[]){(long)&t, 0, 0, 0, 0});
    else
        result = checked(id, SYS_poll, (long[]){0, 0, 3, 0, 0});
    if (result != 0)
        fail("timed call", result);
    if (now() - began < 0.003)
        fail("short time", result);
}

static void masked(int id)  // a call with a signal mask of its own
{
    struct timespec t = {0, 3000000};
    unsigned long mask = 1UL << (SIGUSR1 - 1);
    long result = checked(id, SYS_ppoll, (long[]){0, 0, (long)&t, (long)&mask, 8});
    if (result != 0)
        fail("ppoll", result);
}

static void block(int id)
{
    static unsigned char next;
    unsigned char byte;
    long result = checked(id, SYS_read, (long[]){ticks[0], (long)&byte, 1, 0, 0});
    if (result != 1 || byte != next++)
        fail("read", result);
}

static void tick(int id)
{
    static unsigned char next;
    struct timespec t = {0, 2000000};
    checked(id, SYS_nanosleep, (long[]){(long)&t, 0, 0, 0, 0});
    if (write(ticks[1], &next, 1) != 1)
        fail("write", errno);
    next++;
}

static void wait_input(int id)
{
    char byte;
    if (checked(id, SYS_read, (long[]){0, (long)&byte, 1, 0, 0}) == 0)
        stopping = 1;
}

static void on_signal(int number)
{
    (void)number;
    while (!stopping) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        checked(0, -200000, 0);
        if (poll(&input, 1, 0) == 1 && input.revents & POLLHUP)
            stopping = 1;
    }
}

static void handle(int id)  // runs on an alternate signal stack all the time
{
    static char memory[1 << 16];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    if (sigaltstack(&stack, 0) || sigaction(SIGUSR1, &action, 0) || raise(SIGUSR1))
        fail("handler", id);
}

static const struct { const char *name; void (*run)(int); } kinds[] = {
    {"spin", spin}, {"timed", timed}, {"masked", masked}, {"block", block}, {"tick", tick},
    {"input", wait_input}, {"handle", handle},
};

struct thread { int id; void (*run)(int); };

static void *thread(void *argument)
{
    struct thread *me = argument;
    sigset_t mask, seen;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGRTMIN + me->id);
    pthread_sigmask(SIG_SETMASK, &mask, 0);
    while (!stopping) {
        me->run(me->id);
        pthread_sigmask(SIG_SETMASK, 0, &seen);
        for (int number = 1; number < 64; number++)
            if (sigismember(&mask, number) != sigismember(&seen, number))
                fail("signal mask", number);
        loops++;
        struct pollfd input = {.fd = 0, .events = POLLIN};
        if (me->id == 0 && poll(&input, 1, 0) == 1 && input.revents & POLLHUP)
            stopping = 1;
    }
    return 0;
}

static atomic_long signals;
static void count(int number)
{
    (void)number;
    signals++;
}

int main(int argc, char **argv)
{
    size_t size = strtoul(argv[1], 0, 10) << 20;
    char *memory = malloc(size + 1);
    for (size_t i = 0; i < size; i += 4096)
        memory[i] = 1;
    if (pipe(ticks) != 0)
        fail("pipe", errno);
    static struct thread threads[64];
    int n = 0;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "signals") == 0) {  // a signal every 2 ms, for whoever takes it
            struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
            sigaction(SIGALRM, &action, 0);
            timer_t timer;
            struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
            struct itimerspec every = {{0, 2000000}, {0, 2000000}};
            if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &every, 0))
                fail("timer", errno);
            continue;
        }
        threads[n] = (struct thread){.id = n, .run = 0};
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            if (strcmp(argv[i], kinds[k].name) == 0)
                threads[n].run = kinds[k].run;
        if (!threads[n++].run)
            fail("kind", i);
    }
    for (int i = 1; i < n; i++) {
        pthread_t ignored;
        if (pthread_create(&ignored, 0, thread, &threads[i]) != 0)
            fail("thread", i);
    }
    printf("ready\n");
    fflush(stdout);
    thread(&threads[0]);
    printf("ok %ld\n", (long)loops);
    fflush(stdout);
    _exit(0);
}
