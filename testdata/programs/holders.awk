# gawk -v behaviour=… -v seconds=… -f holders.awk: holds memory in one of two ways. Begins with a line of input, says
# "done", and ends with its input.
BEGIN {
    srand(3)
    getline
    stop = systime() + seconds
    while (systime() < stop) {
        if (behaviour == "seen")
            # Every key is new.
            for (i = 0; i < 200; i++)
                seen["key number " n++] = n
        else
            # Counts 5,000 words, of which the last is met when a third of the time or more is over.
            for (i = 0; i < 150; i++)
                count["word " int(rand() * 5000)]++
        system("sleep 0.05")
    }
    print "done"
    fflush()
    getline
}
