/* Kernels of the contract suite, as stand-in libcuda launches them. */

#include <stdint.h>
#include <unistd.h>

/* out[i] = in[i] + 1 for i < count. One thread for each: the grid has to be large enough. */
int host_launch_add_one(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void **arguments) {
    const unsigned char *in = *(const unsigned char **)arguments[0];
    unsigned char *out = *(unsigned char **)arguments[1];
    uint64_t count = *(uint64_t *)arguments[2];
    if (gy * gz * by * bz != 1) return 1;
    for (uint64_t i = 0; i < count && i < (uint64_t)gx * bx; i++) out[i] = in[i] + 1;
    return 0;
}

/* Ends when somebody writes anything but 0 to this address. */
int host_launch_gate(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void **arguments) {
    (void)gx, (void)gy, (void)gz, (void)bx, (void)by, (void)bz;
    while (!__atomic_load_n(*(unsigned char **)arguments[0], __ATOMIC_ACQUIRE)) usleep(100);
    return 0;
}
