// engines/cuda/kernels/prepare.cu on the CPU: what a GPU does at once is done here one after the other.
// Built by tests/support/host_kernels.py. Says nothing about speed.

#include <initializer_list>

#include KERNELS

namespace {

template <typename Step>
void each_thread(Step step) {
    for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) step();
}

}  // namespace

extern "C" {

// As cuLaunchKernel takes them: `arguments` points to pointers to the kernel's two addresses. 0: done; 1: not such a grid.
int host_launch_prepare(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, void** arguments) {
    if (bx != COLUMNS || by != ROWS || bz != 1) return 1;
    const Byte* staging = *static_cast<const Byte**>(arguments[0]);
    Byte* tensors = *static_cast<Byte**>(arguments[1]);
    blockDim = {bx, by, bz};
    threadIdx.z = 0;
    for (blockIdx.z = 0; blockIdx.z < gz; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gy; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x) {
                BlockTaps taps;
                std::memset(&taps, 0xff, sizeof taps);  // shared memory starts with anything
                each_thread([&] { find_taps(staging, taps); });
                each_thread([&] { write_pixel(staging, taps, tensors); });
            }
    return 0;
}

int host_picture_size() { return sizeof(Picture); }

// The fields of a picture's parameters in the order in which they are declared; returns how many.
int host_read_picture(const Picture* picture, long long* fields) {
    long long* next = fields;
    for (const Plane& plane : picture->planes) {
        *next++ = plane.offset;
        for (int value : {plane.pitch, plane.width, plane.height, plane.halvings}) *next++ = value;
    }
    for (int value : picture->inner) *next++ = value;
    for (int value : picture->tensor) *next++ = value;
    for (int value : {picture->fill, picture->format, picture->limited}) *next++ = value;
    for (int value : picture->matrix) *next++ = value;
    return next - fields;
}

}  // extern "C"
