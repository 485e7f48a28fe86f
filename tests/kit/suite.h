/* suite_queue.C's part of the suite. */
#ifndef SUITE_H
#define SUITE_H
void queue_init(long p);
void queue_part(long me, long p);
#endif
