/* Prints `name address` lines and `ready`, then waits for its end. `leaf` calls `here` through two inlined
 * functions; the barrier keeps that call from becoming a jump. The test knows the lines. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
#define BARRIER __asm__ volatile("" ::: "memory")
KEEP void *here(void) { BARRIER; return __builtin_return_address(0); }
#ifdef __OPTIMIZE__
#define INLINE static inline __attribute__((always_inline))
INLINE void *inner(void) { void *p = here(); BARRIER; return p; }
INLINE void *outer(void) { void *p = inner(); BARRIER; return p; }
#else
#define outer here
#endif
KEEP void *leaf(void)
{
    void *p = outer();
    BARRIER;
    return p;
}
volatile int calls;
KEEP static void *hidden(void) { void *p = here(); calls++; return p; }
KEEP void *mangled(void) __asm__("_ZN3foo3barEi");
KEEP void *mangled(void) { void *p = here(); BARRIER; return p; }
#define SAY(name, address) printf("%s %p\n", name, (void *)(address))
int main(void)
{
    SAY("leaf", leaf);
    SAY("in_leaf", leaf());
    SAY("in_hidden", hidden());
    SAY("in_mangled", mangled());
    SAY("malloc", malloc);
    SAY("calloc", calloc);
    SAY("realloc", realloc);
    SAY("free", free);
    SAY("posix_memalign", posix_memalign);
    SAY("aligned_alloc", aligned_alloc);
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
