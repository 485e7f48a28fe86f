// The ring as it is: compiled here, so that both variants differ in one thing only.
#include "nic/shm_ring.cpp"
