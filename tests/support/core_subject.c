// A process whose threads, strings and pages a test knows: three threads in named functions,
// a string in .data, one on the heap, and anonymous memory of which every other page is written.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 64, PAGE = 4096 };

char message[] = "a string in the data segment";
static pthread_barrier_t barrier;

__attribute__((noinline)) void wait_in_worker(int number) {
    volatile int here = number;
    pthread_barrier_wait(&barrier);
    for (;;) pause();
    (void)here;
}

static void *worker(void *argument) {
    wait_in_worker((int)(long)argument);
    return NULL;
}

__attribute__((noinline)) void wait_in_main(const void *heap, const void *sparse) {
    char byte;
    printf("%p %p %p %p\n", (void *)message, heap, sparse, (void *)wait_in_main);
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0) {}
}

int main(void) {
    pthread_t threads[2];
    char *heap = strdup("a string on the heap");
    char *sparse = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // Small pages, so that the pages between stay untouched.
    madvise(sparse, PAGES * PAGE, MADV_NOHUGEPAGE);
    for (int i = 0; i < PAGES; i += 2) memset(sparse + i * PAGE, 'A' + i / 2 % 26, PAGE);
    pthread_barrier_init(&barrier, NULL, 3);
    for (long i = 0; i < 2; i++) pthread_create(&threads[i], NULL, worker, (void *)i);
    pthread_barrier_wait(&barrier);
    wait_in_main(heap, sparse);
    return 0;
}
