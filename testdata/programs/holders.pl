# holders.pl BEHAVIOUR SECONDS: keeps each line of a log, which is its one behaviour. Begins with a line of input, says
# "done", and ends with its input.
my (undef, $seconds) = @ARGV;
my @log;
my $number = 0;
$| = 1;
<STDIN>;
my $stop = time + $seconds;
while (time < $stop) {
    push @log, { id => ++$number, text => "line $number of the log" } for 1 .. 200;
    select(undef, undef, undef, 0.05);
}
print "done\n";
<STDIN>;
