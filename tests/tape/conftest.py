from tests.tape.tape_peers import peers as peers
